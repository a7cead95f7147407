"""Fifty annotators at once for a minute: no choice lost, none doubled; how long they wait is printed beside the load."""

import json
import os
import random
import re
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psutil
import pytest

from client.feedback.acts import Role
from client.feedback.store import FeedbackStore
from client.hospital.site import Site
from tests.helpers.labelling import PASSWORD, make_labelling_site, open_page, questions

ANNOTATORS, SECONDS, THINKING_SECONDS = 50, float(os.environ.get("WARDROUND_LOAD_SECONDS", "60")), (3.0, 5.0)


class Annotator(threading.Thread):
    """Signs in, then chooses after thinking time, as a browser with htmx would. Keeps what the page confirmed, and how long it took."""

    def __init__(self, name: str, address: str, start: threading.Event, over: threading.Event, ready: threading.Semaphore) -> None:
        super().__init__(name=name, daemon=True)
        self.host, self.begin, self.over = urlsplit(address).netloc, start, over
        self.ready = ready
        self.waits: list[float] = []
        self.confirmed = 0
        self.trouble: list[str] = []

    def run(self) -> None:
        with closing(HTTPConnection(self.host, timeout=300)) as line:
            self._label(line, random.Random(self.name))

    def _label(self, line: HTTPConnection, draw: random.Random) -> None:

        def ask(method: str, path: str, form: dict[str, str] | None = None, cookie: str = "") -> tuple[int, str, dict[str, str]]:
            headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
            if form is not None:
                headers |= {"HX-Request": "true", "Origin": f"http://{self.host}"}
            line.request(method, path, None if form is None else urlencode(form), headers)
            answer = line.getresponse()
            told = answer.status, answer.read().decode(), dict(answer.getheaders())
            line.close()  # the server ends a line that was idle for a while: every request opens its own, which counts in its time
            return told

        _, page, headers = ask("GET", "/sign-in")
        door = headers["set-cookie"].split(";")[0]
        status, _, headers = ask("POST", "/sign-in", {"csrf": field(page, "csrf"), "name": self.name, "password": PASSWORD}, door)
        if status != 303:
            self.trouble.append(f"sign-in {status}")
            return
        cookie = headers["set-cookie"].split(";")[0]
        _, page, _ = ask("GET", "/", cookie=cookie)
        self.ready.release()
        self.begin.wait()
        time.sleep(draw.uniform(0, THINKING_SECONDS[1]))
        while not self.over.is_set() and 'name="screen"' in page:
            form = {"csrf": field(page, "csrf"), "screen": field(page, "screen"), "verdict": draw.choice(("1", "2", "tie"))}
            begun = time.perf_counter()
            status, page, _ = ask("POST", "/choose", form, cookie)
            self.waits.append(time.perf_counter() - begun)
            if status != 200 or "Saved." not in page:
                self.trouble.append(f"choose {status}")
                return
            self.confirmed += 1
            self.over.wait(draw.uniform(*THINKING_SECONDS))


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_fifty_annotators_for_a_minute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = [(f"Annotator {n}", Role.ANNOTATOR) for n in range(ANNOTATORS)]
    make_labelling_site(tmp_path / "north", questions(1000), people, "votes_per_pair = 3\n")
    start, over, ready = threading.Event(), threading.Event(), threading.Semaphore(0)
    with open_page(tmp_path / "north") as (address, process):
        crowd = [Annotator(name, address, start, over, ready) for name, _ in people]
        for annotator in crowd:
            annotator.start()
        assert all(ready.acquire(timeout=400) for _ in crowd)  # signed in: Argon2 takes its time on purpose
        before = psutil.Process(process.pid).cpu_times()
        start.set()
        time.sleep(SECONDS)
        over.set()
        for annotator in crowd:
            annotator.join(90)
        after = psutil.Process(process.pid).cpu_times()
    assert [trouble for annotator in crowd for trouble in annotator.trouble] == []
    waits = sorted(wait for annotator in crowd for wait in annotator.waits)
    with Site.open(tmp_path / "north") as site:
        store = FeedbackStore(site)
        store.refresh()
        choices = store.choices()
        assert len(choices) == sum(annotator.confirmed for annotator in crowd)  # none lost
        assert len({(choice.person_id, choice.item_id) for choice in choices}) == len(choices)  # none doubled
        assert sum(row.kind == "Chosen" for row in site.audit.rows()) == len(choices)
        site.audit.verify()
    figures = {
        "annotators": ANNOTATORS, "seconds": SECONDS, "choices": len(choices), "choices_per_second": round(len(choices) / SECONDS, 1),
        "median_ms": round(1000 * waits[len(waits) // 2], 1), "p95_ms": round(1000 * waits[int(0.95 * len(waits))], 1),
        "server_cpu_ms_per_choice": round(1000 * (after.user + after.system - before.user - before.system) / max(len(choices), 1), 1),
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    with capsys.disabled():
        print("\n" + json.dumps(figures))  # noqa: T201  # the figures of this test are its purpose
    assert len(choices) > ANNOTATORS
