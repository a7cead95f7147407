"""The door of the labelling page: who gets in, what a form must bring, what the page gives away."""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from scipy.stats import mannwhitneyu

from client.feedback import door, web
from client.feedback.acts import Role
from client.feedback.desk import Desk
from client.feedback.items import Item
from client.feedback.settings import LabelSettings
from client.feedback.store import FeedbackStore
from client.feedback.texts import languages, words
from client.hospital.site import Site
from tests.helpers.labelling import PASSWORD, add_person, add_questions, questions


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 8, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Ward:
    """A site with its page, and browsers without a browser."""

    def __init__(self, site: Site, items: list[Item]) -> None:
        self.site, self.clock = site, Clock()
        self.store = FeedbackStore(site)
        for name, role in (("Ann", Role.ANNOTATOR), ("Ada", Role.ADJUDICATOR), ("Adam", Role.ADMINISTRATOR)):
            add_person(self.store, name, role)
        add_questions(self.store, items)
        self.app = web.create_app(Desk(self.store, LabelSettings(max_share=1.0)), self.clock)

    def client(self, name: str | None = None, password: str = PASSWORD) -> TestClient:
        client = TestClient(self.app, base_url="http://127.0.0.1", follow_redirects=False)
        if name is not None:
            token = field(client.get("/sign-in").text, "csrf")
            client.post("/sign-in", data={"csrf": token, "name": name, "password": password})
        return client


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return found[1]


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    with Site.create(tmp_path / "north", "north", simulated_seed=1) as site:
        yield Ward(site, questions(6))


def test_a_choice_from_sign_in_to_sign_out(ward: Ward) -> None:
    client = ward.client("Ann")
    page = client.get("/").text
    sent = {
        "csrf": field(page, "csrf"),
        "screen": field(page, "screen"),
        "verdict": "1",
        "tag-2": ["unclear", "no-such-tag"],
        "correction": " Better. ",
    }
    assert client.post("/choose", data=sent).status_code == 303
    choice = ward.store.choices()[0]
    assert choice.chosen == choice.order[0]
    assert choice.remarks.tags == ((choice.order[1], choice.remarks.tags[0][1]),)
    assert choice.remarks.correction == "Better."
    part = client.post("/undo", data={"csrf": field(page, "csrf")}, headers={"hx-request": "true"}).text
    assert part.lstrip().startswith("<main")
    assert ward.store.choices() == []
    assert client.post("/sign-out", data={"csrf": field(page, "csrf")}).headers["location"] == "/sign-in?out=1"
    assert client.get("/").headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("change", [{"password": "another hash"}, {"closed": True}])
def test_a_password_changed_or_an_account_closed_at_a_terminal_ends_the_session_at_once(ward: Ward, change: dict[str, object]) -> None:
    client = ward.client("Ann")
    assert client.get("/").status_code == 200
    with Site.open(ward.store.site.folder) as elsewhere:  # as `wardround-site people` does, in a process of its own
        store = FeedbackStore(elsewhere)
        with store.locked():
            person = store.named("Ann")
        assert person is not None
        store.save_person(replace(person, **change), None)  # type: ignore[arg-type]  # one field of each type
    assert client.get("/").headers["location"].startswith("/sign-in")


def test_the_cookie_and_the_headers(ward: Ward) -> None:
    client = ward.client()
    token = field(client.get("/sign-in").text, "csrf")
    answer = client.post("/sign-in", data={"csrf": token, "name": "Ann", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/choose", "/undo", "/mine/withdraw", "/display", "/sign-out"])
def test_a_form_without_the_token_is_refused(ward: Ward, path: str) -> None:
    client = ward.client("Ann")
    assert client.post(path, data={"csrf": "guessed", "verdict": "1"}).status_code == 403


def test_another_sites_page_cannot_act_and_on_an_unguarded_twin_it_can(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacker's page sends the victim's cookie along, and knows every field but the token."""
    client = ward.client("Ann")
    client.get("/")

    def attack() -> int:
        return client.post("/mine/withdraw", data={"csrf": "unknown"}).status_code

    assert attack() == 403
    monkeypatch.setattr(door.secrets, "compare_digest", lambda a, b: True)
    assert attack() == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"host": "evil.example"}, 421),
    ],
)
def test_requests_from_elsewhere_are_refused(ward: Ward, headers: dict[str, str], status: int) -> None:
    client = ward.client("Ann")
    page = client.get("/").text
    sent = {"csrf": field(page, "csrf"), "screen": field(page, "screen"), "verdict": "1"}
    assert client.post("/choose", data=sent, headers=headers).status_code == status
    assert ward.store.choices() == []


def test_a_form_that_is_too_large_is_not_read(ward: Ward) -> None:
    client = ward.client("Ann")
    assert client.post("/choose", data={"correction": "x" * 70_000}).status_code == 413


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        ("Ann", "/agreement", 403), ("Ann", "/people", 403), ("Ann", "/adjudicate", 403), ("Ada", "/people", 403), ("Adam", "/adjudicate", 403),
        ("Adam", "/mine", 403), ("Ada", "/agreement", 200), ("Adam", "/people", 200), ("Ann", "/nowhere", 404), ("Ann", "/static/texts.toml", 404),
    ],
)  # fmt: skip
def test_roles(ward: Ward, who: str, path: str, status: int) -> None:
    assert ward.client(who).get(path).status_code == status


def test_an_administrator_adds_and_closes_accounts(ward: Ward) -> None:
    admin = ward.client("Adam")
    token = field(admin.get("/people").text, "csrf")
    person = {"csrf": token, "name": "Eve", "role": "annotator", "password": PASSWORD}
    assert admin.post("/people", data=person | {"password": "short"}).status_code == 400
    assert admin.post("/people", data=person).status_code == 200
    assert admin.post("/people", data=person).status_code == 400
    eve = ward.client("Eve")
    assert eve.get("/").status_code == 200
    found = ward.store.named("eve")
    assert found is not None
    admin.post("/people/close", data={"csrf": token, "person": found.person_id})
    assert eve.get("/").status_code == 303
    assert ward.client("Eve").get("/").status_code == 303


def test_passwords_are_guessed_slowly(ward: Ward) -> None:
    client = ward.client()
    token = field(client.get("/sign-in").text, "csrf")
    codes = [client.post("/sign-in", data={"csrf": token, "name": "Ann", "password": f"wrong {n}"}).status_code for n in range(7)]
    assert codes == [403] * 5 + [429] * 2
    assert client.post("/sign-in", data={"csrf": token, "name": "Ann", "password": PASSWORD}).status_code == 429
    ward.clock.now += timedelta(seconds=3)
    assert client.post("/sign-in", data={"csrf": token, "name": "ann ", "password": PASSWORD}).status_code == 303


def test_sessions_end_by_themselves(ward: Ward) -> None:
    client = ward.client("Ann")
    for _ in range(10):
        ward.clock.now += timedelta(minutes=20)
        assert client.get("/").status_code == 200
    ward.clock.now += timedelta(minutes=31)
    assert client.get("/").headers["location"] == "/sign-in?expired=1"


def test_text_is_never_markup_and_never_in_a_log(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    nasty = '<script>alert(1)</script>"onload="x'
    item = questions(1)[0]
    add_questions(ward.store, [replace(item, prompt=nasty, answers=tuple(replace(a, text=nasty) for a in item.answers))] * 1)
    with caplog.at_level(logging.DEBUG):
        client = ward.client("Ann")
        pages = []
        for _ in range(7):
            page = client.get("/").text
            pages.append(page)
            client.post("/choose", data={"csrf": field(page, "csrf"), "screen": field(page, "screen"), "verdict": "tie", "other": nasty})
    assert "<script>alert" not in "".join(pages)
    assert "&lt;script&gt;alert" in "".join(pages)
    assert "alert(1)" not in caplog.text
    assert "ibuprofen" not in caplog.text


# -- blinding ----------------------------------------------------------------------------------------------------------


def scrubbed(page: str) -> str:
    return re.sub(r'value="[\w-]{16,}"', 'value="…"', page)


def test_the_page_is_the_same_whoever_wrote_which_answer(tmp_path: Path) -> None:
    """Two sites, the same texts in the same places, all sources exchanged: every byte that is not a random token is equal."""
    pages = []
    for number, names in enumerate((("sft-v1", "policy-v9"), ("policy-v9", "sft-v1"))):
        with Site.create(tmp_path / str(number), "north", simulated_seed=1) as site:
            item = questions(1)[0]
            answers = tuple(replace(a, source=name, sampled=name == "sft-v1") for a, name in zip(item.answers, names, strict=True))
            ward = Ward(site, [replace(item, answers=answers)])
            ward.app = web.create_app(Desk(ward.store, LabelSettings(max_share=1.0), draw=lambda n: 0), ward.clock)
            page = ward.client("Ann").get("/").text
            pages.append(scrubbed(page))
            assert not any(word in page for word in ("sft", "policy-v", "sampled", item.item_id))
    assert pages[0] == pages[1]


def test_a_page_that_tells_would_be_noticed() -> None:
    assert scrubbed('<article data-source="sft-v1">') != scrubbed('<article data-source="policy-v9">')


def times(ask: Callable[[str], float], rounds: int) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(2 * rounds):
        found[number % 2].append(ask(("sft", "policy")[number % 2]))
    return found


def test_time_does_not_tell_who_wrote_an_answer(ward: Ward) -> None:
    """Pages whose first answer is one model's against the other's, in turn; a twin that takes longer for one is noticed."""
    item = questions(1)[0]
    client = ward.client("Ann")
    person = ward.store.named("Ann")
    assert person is not None
    screen = Desk(ward.store, LabelSettings()).screen(person.person_id, ward.clock.now)
    assert screen is not None
    import time

    def ask(source: str, extra: float = 0.0) -> float:
        ward.store.items[screen.item_id] = replace(
            item, item_id=screen.item_id, answers=tuple(replace(a, source=source) for a in item.answers)
        )
        begun = time.perf_counter()
        client.get("/")
        time.sleep(extra if source == "sft" else 0.0)
        return time.perf_counter() - begun

    honest, twin = times(ask, 25), times(lambda source: ask(source, 0.02), 25)
    assert mannwhitneyu(*honest).pvalue > 1e-5
    assert mannwhitneyu(*twin).pvalue < 1e-5


# -- texts -------------------------------------------------------------------------------------------------------------


def test_every_language_has_every_text_and_the_same_blanks() -> None:
    tables = languages()
    assert set(tables) == {"en", "es", "de"}
    for code in ("es", "de"):
        assert set(tables[code]) == set(tables["en"])
        for key, text in tables["en"].items():
            assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", tables[code][key])), (code, key)
    with pytest.raises(KeyError):
        words("en")("no such text")


def test_every_text_that_a_page_asks_for_is_there() -> None:
    folder = Path(web.__file__).parent / "page"
    asked = {key for page in folder.glob("*.j2") for key in re.findall(r't\("([\w-]+)"[,)]', page.read_text())}
    assert len(asked) > 40
    assert asked <= set(languages()["en"])


@pytest.mark.parametrize(("header", "title"), [("de-CH,de;q=0.9", "Anmelden"), ("es", "Entrar"), ("fr,en", "Sign in"), ("", "Sign in")])
def test_the_door_speaks_the_browsers_language(ward: Ward, header: str, title: str) -> None:
    assert title in ward.client().get("/sign-in", headers={"accept-language": header}).text
