"""What the names network is trained on, and that the same seed gives the same file."""

import random
from pathlib import Path

import numpy as np

from client.deid.tagger import LABELS, WEIGHTS, load, tokens
from client.deid.vectors import MANIFEST
from common.progress import Silent
from simulations.bench.deid_notes import marked_notes
from simulations.ner.compose import UNLEARNED, Composer, public_sentences
from simulations.ner.marked import UNDECIDED, Marked, invented_notes
from simulations.ner.slots import Slots
from simulations.ner.train import train


def test_every_slot_of_every_language_can_be_filled_and_labels_fit_the_text() -> None:
    for language in ("en", "es", "de"):
        slots = Slots(random.Random(1), language)
        for slot in slots.names:
            text, label = slots.fill(slot)
            assert text
            assert label in LABELS


def test_composed_texts_hold_identifiers_and_much_that_is_none_and_repeat_with_the_seed() -> None:
    one, other = (Composer(random.Random(5), public_sentences(None, random.Random(5), most=10)) for _ in range(2))
    examples = [one.example() for _ in range(200)]
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(examples, [other.example() for _ in range(200)], strict=True))
    share = np.mean(np.concatenate([example.labels for example in examples]) > 0)
    assert 0.1 < share < 0.6
    assert {label for example in examples for label in example.labels.tolist()} == {UNLEARNED, *range(len(LABELS))}


def test_the_same_seed_trains_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        train(None, tmp_path / name, texts=120, epochs=1, seed=3, progress=Silent())
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    assert (tmp_path / "a" / MANIFEST).read_text() == (tmp_path / "b" / MANIFEST).read_text()
    assert load(tmp_path / "a" / WEIGHTS).probabilities(tokens("Seen by Dr. Quistgaard.")).shape == (6, len(LABELS))


def test_stretches_of_marked_notes_keep_their_frames_and_exchange_people_and_numbers() -> None:
    rows = invented_notes()
    marked = Marked(random.Random(2), rows, "en")
    drawn = [marked.pieces() for _ in range(400)]
    known = {row["text"][span["start"] : span["end"]] for row in rows for span in row["spans"] if span["label"] == "NAME"}
    frames = "\n".join(row["text"] for row in rows)
    assert {label for pieces in drawn for _, label in pieces} == {"", "NAME", "LOCATION", "ORGANIZATION", "DATE", "ID", UNDECIDED}
    assert all(piece in frames for pieces in drawn for piece, label in pieces if not label and len(piece) > 3)
    names = [piece for pieces in drawn for piece, label in pieces if label == "NAME"]
    assert 0.5 < np.mean([name not in known for name in names]) < 0.9


def test_notes_that_are_measured_with_are_never_trained_on() -> None:
    """Two notes may share a heading, "EXAM: CT ABDOMEN AND PELVIS WITH IV CONTRAST"; no two lines."""
    trained = {line for row in invented_notes() for line in row["text"].splitlines() if len(line) > 40}
    for part in ("tuned", "hard", "blind", "ordinary", "plain"):
        for note in marked_notes(part):
            assert len(trained & set(note["text"].splitlines())) <= 1, (part, note["id"])
