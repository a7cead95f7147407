"""The labelling page in a real browser: by keyboard alone, on a narrow screen, by two at once, for a screen reader, after a kill."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from client.feedback.acts import Role
from client.feedback.desk import Desk
from client.feedback.items import Tag, Verdict
from client.feedback.settings import load_settings
from client.feedback.settling import State
from client.feedback.store import FeedbackStore
from client.hospital.site import Site
from tests.helpers.browser import chromium
from tests.helpers.labelling import PASSWORD, make_labelling_site, open_page, questions

PEOPLE = [*((name, Role.ANNOTATOR) for name in ("Ann", "Ben", "Eve", "Noa")), ("Ada", Role.ADJUDICATOR), ("Adam", Role.ADMINISTRATOR)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """One page for several tests: each works as somebody else."""
    folder = tmp_path_factory.mktemp("ward") / "north"
    settings = "max_share = 1.0\nratings = true\nvotes_per_pair = 4\n"
    make_labelling_site(folder, [*questions(24), *questions(2, calibration=2)], PEOPLE, settings)
    with open_page(folder) as (address, _):
        yield folder, address


class Tab:
    """One annotator's browser; keeps every address that was asked for, and every complaint of the browser."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**({"locale": "en-GB"} | options))
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.address = address

    def sign_in(self, name: str) -> "Tab":
        """By keyboard: the name has the focus when the page opens."""
        self.page.goto(f"{self.address}/sign-in")
        self.page.keyboard.type(name)
        self.page.keyboard.press("Tab")
        self.page.keyboard.type(PASSWORD)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("nav")
        return self

    def press(self, key: str) -> None:
        """One key, and wait until the next question (or the end) stands there."""
        before = self.page.locator("main").inner_text()
        self.page.keyboard.press(key)
        self.page.wait_for_function(
            "before => document.querySelector('main').innerText !== before && !document.documentElement.ariaBusy", arg=before
        )

    def close(self) -> None:
        outside = [url for url in self.asked if urlsplit(url).hostname != "127.0.0.1"]
        assert outside == []
        assert self.complaints == []
        self.context.close()


def store_of(folder: Path) -> tuple[Site, FeedbackStore]:
    site = Site.open(folder)
    store = FeedbackStore(site)
    store.refresh()
    return site, store


def test_twenty_pairs_by_keyboard_alone(browser: Any, ward: tuple[Path, str]) -> None:
    """Sign in, label, undo, say more, correct, sign out: no mouse anywhere."""
    folder, address = ward
    tab = Tab(browser, address).sign_in("Ann")
    for number in range(20):
        tab.press("12tus"[number % 5])
    tab.page.locator("main").get_by_text("Undo").first.wait_for()
    tab.press("z")
    tab.page.locator("[role=status]").get_by_text("Taken back").first.wait_for()
    tab.page.keyboard.press("e")
    assert tab.page.evaluate("document.activeElement.name") == "tag-1"
    tab.page.keyboard.press("Space")
    for _ in range(80):
        if tab.page.evaluate("document.activeElement.name") == "correction":
            break
        tab.page.keyboard.press("Tab")
    tab.page.keyboard.type("Please call us today.")
    tab.page.keyboard.press("Escape")
    tab.page.locator("h1").focus()
    tab.press("1")
    tab.page.keyboard.press("g")
    assert tab.page.locator("#guidelines").is_visible()
    tab.page.keyboard.press("Escape")
    assert not tab.page.locator("#guidelines").is_visible()
    tab.page.get_by_role("button", name="Sign out").focus()
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url("**/sign-in?out=1")
    tab.close()
    site, store = store_of(folder)
    with site:
        (ann,) = [p for p in store.people.values() if p.name == "Ann"]
        own = store.of_person(ann.person_id)
        assert len(own) == 20
        last = own[-1]
        assert (last.verdict, last.remarks.correction) == (Verdict.ANSWER, "Please call us today.")
        assert last.remarks.tags == ((last.order[0], Tag.FACTUALLY_WRONG),)
        assert {choice.verdict for choice in own} >= {Verdict.ANSWER, Verdict.TIE, Verdict.UNSAFE, Verdict.SKIP}


def test_two_annotators_at_once_then_the_adjudicator(browser: Any, tmp_path: Path) -> None:
    items = questions(3)
    make_labelling_site(tmp_path / "north", items, PEOPLE, "max_share = 1.0\nextra_votes = 0\n")
    better = {item.prompt: item.answers[0].text for item in items}
    with open_page(tmp_path / "north") as (address, _):
        ann, ben = Tab(browser, address).sign_in("Ann"), Tab(browser, address).sign_in("Ben")
        for _ in range(3):
            for tab, wants_better in ((ann, True), (ben, False)):
                prompt = tab.page.locator(".prompt").inner_text()
                first = tab.page.locator(".answer .text").first.inner_text() == better[prompt]
                tab.press("1" if first == wants_better else "2")
        assert "Nothing more to do" in ann.page.locator("h1").inner_text()
        ada = Tab(browser, address).sign_in("Ada")
        ada.page.goto(f"{address}/adjudicate")
        assert "3 waiting" in ada.page.locator("main").inner_text()
        assert "1 for answer 1" in re.sub(r"\s+", " ", ada.page.locator(".votes").inner_text())
        first = ada.page.locator(".answer .text").first.inner_text() == better[ada.page.locator(".prompt").inner_text()]
        ada.press("1" if first else "2")
        ada.press("a")
        for tab in (ann, ben, ada):
            tab.close()
    site, store = store_of(tmp_path / "north")
    with site:
        outcomes = Desk(store, load_settings(tmp_path / "north")).outcomes().values()
        assert sorted(o.state for o in outcomes) == [State.ADJUDICATE, State.SET_ASIDE, State.SETTLED]
        assert [o.winner for o in outcomes if o.state is State.SETTLED] == [0]


def test_a_narrow_screen_holds_everything(browser: Any, ward: tuple[Path, str]) -> None:
    _, address = ward
    tab = Tab(browser, address, viewport={"width": 320, "height": 640}, has_touch=True).sign_in("Eve")
    german = Tab(browser, address, viewport={"width": 320, "height": 640}, locale="de-DE").sign_in("Eve")
    for someone in (tab, german):
        for path in ("/", "/mine"):
            someone.page.goto(address + path)
            assert someone.page.evaluate("document.documentElement.scrollWidth") <= 320
    assert "Welche Antwort" in german.page.title() or "Urteile" in german.page.title()
    german.close()
    tab.page.goto(address + "/")
    small = tab.page.evaluate(
        "[...document.querySelectorAll('main button')].filter(b => b.offsetParent && b.getBoundingClientRect().height < 44).length"
    )
    assert small == 0
    tab.page.get_by_role("button", name="Answer 2 is better").tap()
    tab.page.wait_for_function("() => document.querySelector('main').innerText.includes('1 done')")  # a function: the page allows no eval
    tab.close()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_no_violation(browser: Any, ward: tuple[Path, str], scheme: str) -> None:
    axe_package = pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python is not installed; it comes with the extra `dev`"
    )
    axe = (Path(axe_package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    _, address = ward
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    pages = {"Ben": ("/", "/mine"), "Ada": ("/adjudicate",), "Adam": ("/agreement", "/people"), None: ("/sign-in",)}
    for name, paths in pages.items():
        # the test's own script is put in past the page's policy, which would refuse it
        tab = Tab(browser, address, color_scheme=scheme, bypass_csp=True)
        if name is not None:
            tab.sign_in(name)
            if name == "Ben":
                tab.press("1")
        for path in paths:
            tab.page.goto(address + path)
            if path == "/":
                tab.page.keyboard.press("e")
            tab.page.evaluate(axe)
            found = tab.page.evaluate("rules => axe.run(document, rules)", rules)
            told = [(v["id"], [node["html"][:120] for node in v["nodes"][:3]]) for v in found["violations"]]
            assert told == [], (path, told)
            assert len(found["passes"]) > 10
        tab.close()


def test_axe_would_find_a_violation(browser: Any, ward: tuple[Path, str]) -> None:
    axe_package = pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python is not installed; it comes with the extra `dev`"
    )
    axe = (Path(axe_package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    tab = Tab(browser, ward[1], bypass_csp=True)
    tab.page.goto(f"{ward[1]}/sign-in")
    tab.page.evaluate("document.querySelector('label').replaceWith(document.querySelector('input[name=name]'))")
    tab.page.evaluate(axe)
    assert "label" in {violation["id"] for violation in tab.page.evaluate("axe.run()")["violations"]}
    tab.close()


@pytest.mark.slow
def test_without_scripts_the_page_works_too(browser: Any, ward: tuple[Path, str]) -> None:
    folder, address = ward
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/sign-in")
    page.get_by_label("Name").fill("Noa")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Answer 1 is better").click()
    page.get_by_role("button", name="Equally good").click()
    page.wait_for_load_state()
    context.close()
    site, store = store_of(folder)
    with site:
        (noa,) = [person for person in store.people.values() if person.name == "Noa"]
        assert len(store.of_person(noa.person_id)) == 2


def test_a_kill_loses_at_most_the_choice_on_its_way(browser: Any, tmp_path: Path) -> None:
    make_labelling_site(tmp_path / "north", questions(30), PEOPLE, "max_share = 1.0\n")
    confirmed = 0
    for _ in range(2):
        with open_page(tmp_path / "north") as (address, process):
            tab = Tab(browser, address).sign_in("Ann")
            for _ in range(4):
                tab.press("1")
                confirmed += 1
            tab.page.keyboard.press("2")  # on its way
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            tab.context.close()
        site, store = store_of(tmp_path / "north")
        with site:
            kept = len(store.choices())
            assert confirmed <= kept <= confirmed + 1
            confirmed = kept
            site.audit.verify()
            assert sum(row.kind == "Chosen" for row in site.audit.rows()) >= kept
            assert len({(c.person_id, c.item_id) for c in store.choices()}) == kept
