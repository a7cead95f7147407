"""The page asks nothing of the network, claims nothing it may not, names what is missing, and reads aloud."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from common.config import Engine, PrivacyConfig, StudyConfig
from common.errors import ConfigError, StorageError
from server.evaluate.report import load_metrics, write_report
from tests.helpers.figures import figures
from tests.helpers.run_folder import write_run

VOID = {"meta", "br", "link", "img", "path", "use", "rect", "line"}


class Outline(HTMLParser):
    """Collects what the tests ask for, and checks that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def outline(run: Path) -> Outline:
    found = Outline()
    found.feed(write_report(run).read_text(encoding="utf-8"))
    assert found.open == []
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose page is written once; the tests that read it leave it as it is."""
    run = write_run(tmp_path_factory.mktemp("run"))
    write_report(run)
    return run


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(html: str) -> Outline:
    found = Outline()
    found.feed(html)
    assert found.open == []
    return found


def test_nothing_is_fetched(html: str, read: Outline) -> None:
    assert re.findall(r"(?:https?:)?//[a-z]|@import|url\((?!#)", html) == []
    assert "default-src 'none'" in html
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "link", "img", "iframe", "object"}


def test_it_claims_nothing_it_may_not(html: str) -> None:
    text = html.lower()
    for claim in ("hipaa", "gdpr", "compliant", "anonymous", "anonymis", "anonymiz", "guaranteed", "impossible"):
        assert claim not in text


def test_pictures_and_tables_read_aloud(html: str, read: Outline) -> None:
    images = [a for _, a in read.elements if a.get("role") == "img"]
    assert len(images) == 7
    assert all(len(a["aria-label"] or "") > 30 for a in images)
    tags = [tag for tag, _ in read.elements]
    assert tags.count("table") == tags.count("caption") > 13
    # A table that is wider than a telephone scrolls by itself, and not the page; that of the gates stacks its cells.
    wrapped = sum(a.get("class") in {"scroll", "gates"} for tag, a in read.elements if tag in {"div", "table"})
    assert wrapped == tags.count("table")
    assert all(a.get("scope") in {"col", "row"} for tag, a in read.elements if tag == "th")
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [(a["href"] or "")[1:] for tag, a in read.elements if tag == "a"]
    assert targets
    assert set(targets) <= set(ids)
    used = re.findall(r'(?:url\(#|href="#)([^")]+)', html)
    assert set(used) <= set(ids)


def test_the_statement_has_every_part(read: Outline) -> None:
    text = read.text
    for part in (
        "Unit of privacy",
        "Neighbouring data sets",
        "Sampler",
        "Clipping",
        "Noise",
        "Composition",
        "Guarantee",
        "Accountant",
        "Randomness",
    ):
        assert part in text
    assert "ε at most 7.550 (site hazel) and δ = 1e-6" in text
    assert "What this does not cover" in text
    assert "Not checked: Membership inference" in text


def test_a_simulation_may_not_be_released_even_when_all_gates_hold(read: Outline) -> None:
    text = read.text
    assert "SIMULATED" in text
    assert "All 7 gates hold." in text
    assert "The policy may not be released:" in text


def test_a_run_without_privacy_says_so_and_shows_no_statement(tmp_path: Path) -> None:
    bare = figures().model_copy(update={"not_private": True, "epsilon": {}})
    found = outline(write_run(tmp_path, of=bare, config=StudyConfig(study_id="demo", privacy=PrivacyConfig(engine=Engine.NONE))))
    assert "NOT PRIVATE" in found.text
    assert "There is no differential privacy in this run." in found.text
    assert "1 of 7 gates does not hold" in found.text
    assert "ε at most" not in found.text


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    deid = figures().deid.model_copy(update={"leak_upper_bound": None, "by_class": {}})
    bare = figures().model_copy(
        update={
            "ppo": None,
            "reward": None,
            "sft": None,
            "leaks": None,
            "reward_accuracy": None,
            "deid": deid,
            "seconds": {},
            "lineage": (),
        }
    )
    run = write_run(tmp_path, of=bare)
    (run / "metrics.jsonl").unlink()
    text = outline(run).text
    assert "6 of 7 gates do not hold" in text
    assert text.count("not measured") >= 6
    assert "How many notes still hold an identifier was not measured." in text
    assert "Not searched." in text


def test_text_from_the_run_is_escaped(tmp_path: Path) -> None:
    sneaky = figures().model_copy(update={"not_checked": ("<script>alert(1)</script>",), "epsilon": {"a<b>&c": 1.0}, "sites": 1})
    page = write_report(write_run(tmp_path, of=sneaky)).read_text()
    assert "<script" not in page
    assert "a<b>" not in page
    assert "a&lt;b&gt;&amp;c" in page


def test_the_same_run_gives_the_same_bytes(run: Path, html: str) -> None:
    assert write_report(run).read_text(encoding="utf-8") == html


def test_hundreds_of_sites_are_drawn_by_those_that_spent_most(tmp_path: Path) -> None:
    many = {f"site-{i:03}": 1 + i / 100 for i in range(300)}
    privacy = figures().privacy.model_copy(update={"by_stage": {"sft": many}})
    page = write_report(
        write_run(tmp_path, of=figures().model_copy(update={"epsilon": many, "privacy": privacy, "sites": 300}))
    ).read_text()
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert svg.count(">site-") == 24
    assert page.count("site-000") == 1  # in the table


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; `wardround-coordinator summarize"):
        write_report(tmp_path)


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"round": 1}', b"\xff\xfe"])
def test_a_damaged_line_of_metrics_is_named(tmp_path: Path, line: bytes) -> None:
    run = write_run(tmp_path)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(StorageError, match=r"metrics.jsonl, line 44: not a row"):
        load_metrics(run)
