"""What the names network is trained on, and that the same seed gives the same file."""

import random
from pathlib import Path

import numpy as np

from client.deid.tagger import LABELS, MANIFEST, WEIGHTS, load, tokens
from common.progress import Silent
from simulations.ner.compose import Composer, public_sentences
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
    assert {label for example in examples for label in example.labels.tolist()} == set(range(len(LABELS)))


def test_the_same_seed_trains_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        train(None, tmp_path / name, texts=120, epochs=1, seed=3, progress=Silent())
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    assert (tmp_path / "a" / MANIFEST).read_text() == (tmp_path / "b" / MANIFEST).read_text()
    assert load(tmp_path / "a" / WEIGHTS).probabilities(tokens("Seen by Dr. Quistgaard.")).shape == (6, len(LABELS))
