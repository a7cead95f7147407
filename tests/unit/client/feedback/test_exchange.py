"""Questions and choices to and from other tools: what goes out comes back, and no identifier comes in."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.feedback.acts import Format
from client.feedback.desk import Desk
from client.feedback.exchange import cleaned, read_items, to_argilla, to_counts, to_label_studio
from client.feedback.items import Remarks, Scale, Tag, Verdict
from client.feedback.report import agreement_of
from client.feedback.settings import LabelSettings
from client.feedback.store import FeedbackStore
from client.hospital.site import Site
from client.records import PatientRecord
from common.errors import IntakeError
from tests.helpers.labelling import add_person, add_questions, questions

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Site.create(tmp_path / "north", "north", simulated_seed=1) as site:
        store = FeedbackStore(site)
        people = [add_person(store, name) for name in ("Ann Ower", "Ben Bode")]
        add_questions(store, questions(6))
        desk = Desk(store, LabelSettings(max_share=1.0))
        for person in people:
            for n in range(6):
                screen = desk.screen(person.person_id, NOW)
                assert screen is not None
                remarks = Remarks(((0, Tag.UNCLEAR),), correction="my words", ratings=((0, Scale.SAFETY, 4),)) if n == 0 else Remarks()
                verdict = (Verdict.TIE, Verdict.SKIP, Verdict.ANSWER)[min(n, 2)]
                desk.choose(person.person_id, screen.token, verdict, 1 if verdict is Verdict.ANSWER else None, remarks, NOW)
        yield desk


def codes(desk: Desk) -> dict[str, int]:
    return {person_id: number for number, person_id in enumerate(desk.store.people, 1)}


@pytest.mark.parametrize(("kind", "write"), [(Format.LABEL_STUDIO, to_label_studio), (Format.ARGILLA, to_argilla)])
def test_what_goes_out_comes_back(desk: Desk, tmp_path: Path, kind: Format, write: object) -> None:
    assert callable(write)
    items = list(desk.store.items.values())
    path = tmp_path / "out"
    path.write_text(write(items, desk.store.of_item, codes(desk)), encoding="utf-8")
    back = read_items(path, kind)
    assert [(item.prompt, {a.text for a in item.answers}) for item in back] == [(i.prompt, {a.text for a in i.answers}) for i in items]
    assert "Ann" not in path.read_text()
    assert "model-0" not in path.read_text()


def test_label_studio_results(desk: Desk) -> None:
    tasks = json.loads(to_label_studio(list(desk.store.items.values()), desk.store.of_item, codes(desk)))
    results = [result for task in tasks for annotation in task["annotations"] for result in annotation["result"]]
    assert {result["type"] for result in results} == {"pairwise", "choices", "rating", "textarea"}
    assert {result["value"]["selected"] for result in results if result["type"] == "pairwise"} <= {"left", "right"}
    assert sum(annotation["was_cancelled"] for task in tasks for annotation in task["annotations"]) == 2
    assert {annotation["completed_by"] for task in tasks for annotation in task["annotations"]} == {1, 2}


def test_counts_hold_no_text_and_no_name(desk: Desk) -> None:
    text = to_counts(agreement_of(desk), desk.store.choices())
    rows = list(csv.DictReader(io.StringIO(text)))
    figures = {(row["figure"], row["group"]): row["value"] for row in rows}
    assert (figures["questions", "all"], figures["votes", "all"], figures["verdict", "skip"], figures["tag", "unclear"]) == (
        "6",
        "10",
        "2",
        "2",
    )
    assert not any(word in text for word in ("Ann", "Ben", "ibuprofen", "my words"))


def test_a_line_may_hold_a_line_separator_and_a_file_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes('\ufeff{"prompt": "one\u2028two", "answers": ["a", "b"]}\r\n'.encode())
    assert [item.prompt for item in read_items(path, Format.JSONL)] == ["one\u2028two"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1: not valid JSON"),
        ("[]", "line 1: a JSON object is expected"),
        ('{"prompt": "p", "answers": ["a"]}', "`answers`: are 1"),
        ('{"prompt": "", "answers": ["a", "b"]}', "`prompt`: is missing"),
        ('{"prompt": "p", "answers": ["a", 3]}', "not an object"),
        ('{"prompt": "p", "answers": ["a", "b"], "known_best": 2}', "`known_best`: is 2 of 2"),
        ('{"prompt": "p", "answers": ["a", "b"], "colour": "red"}', "has keys beside"),
        ('{"prompt": "p", "answers": ["a", "b"], "task": "Mrs Jones, 5th floor"}', "`task`: is not a word"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(IntakeError) as refused:
        read_items(path, Format.JSONL)
    assert told in str(refused.value)
    assert "Jones" not in str(refused.value)


def test_the_better_answer_does_not_come_first_by_habit(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "p", "answers": ["good", "bad"], "known_best": 0, "reason": "r"}\n' * 200)
    items = read_items(path, Format.JSONL)
    assert all(item.answers[item.known_best or 0].text == "good" for item in items)
    assert 60 < sum(item.known_best == 0 for item in items) < 140


def test_an_identifier_does_not_come_in(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    prompt = "Zebulon Quistgaard, MRN 4711239, phone 555-0142, asks whether he may drive."
    path.write_text(json.dumps({"prompt": prompt, "answers": ["Mr. Quistgaard may drive.", "Better not."], "patient_id": "p1"}) + "\n")
    with Site.create(tmp_path / "north", "north", simulated_seed=1) as site:
        site.vault.ingest([], [PatientRecord("p1", ("Zebulon Quistgaard",), record_numbers=("4711239",), phones=("555-0142",))])
        items = read_items(path, Format.JSONL)
        done = cleaned(items, site.vault)
    assert "Quistgaard" in items[0].prompt  # the file as it is: without the cleaning it would have come in
    texts = " ".join(text for item in done.items for text in (item.prompt, *(a.text for a in item.answers)))
    assert not any(word in texts for word in ("Zebulon", "Quistgaard", "4711239", "0142"))
    assert done.replaced + done.left_aside > 0
