"""Surnames that a list takes for something else, bare in sentences that no training text knows: what a list of words may hide.

eponyms      names of signs, scores and instruments that no list of names knows; beside the same words as the things they name
dictionary   surnames that the English dictionary holds, though nobody writes them in small letters
words        everyday words that one person in 50,000 has as a surname
"""

import random
from collections.abc import Iterable
from typing import Any

_AS_SOMEBODY = (
    "Rang {} twice about the transfer.", "{} will cover the weekend.", "Family ({}) want a second opinion.", "Seen on the round: {}.",
    "Told {} that the biopsy is benign.", "{} phoned for a repeat script.", "We thank {} for his help.", "{}, who drove himself, waits outside.",
    "Blood sent by {} at noon.", "Home with {} tomorrow.", "Plan from {}: fluids, wait.", "{}'s wife says he snores.",
)  # fmt: skip
_AS_SOMETHING = (
    "Repaired with a {} suture.", "{} stain was negative.", "The score of {} was 12.", "Positive for {} bodies.", "The {} procedure went well.",
    "{} catheter in place.", "Graded {} III.", "Two {} nodes on the film.", "{}-type fracture of the wrist.", "Suspected {} syndrome.",
    "Placed a {} drain.", "No features of {} disease.",
)  # fmt: skip
_EACH = 60
"""Names of each kind, drawn once and for all."""


def surnames() -> dict[str, list[dict[str, Any]]]:
    """Rows as `tally` reads them, by kind."""
    from client.deid.vocabulary.words import dictionary, words

    lists = words()
    eponyms = (word for word in lists.eponyms if len(word) > 4 and not (lists.is_name(word) or word in lists.places))
    held = (word for word in dictionary("en") if word in lists.last and not lists.is_common(word))
    everyday = (word for word in lists.word_surnames if not lists.is_name(word))
    drawn = {"eponyms": _drawn(eponyms), "dictionary": _drawn(held), "words": _drawn(everyday)}
    things: list[dict[str, Any]] = [{"text": form.format(name), "spans": []} for form in _AS_SOMETHING for name in drawn["eponyms"]]
    people = {kind: [_row(form, name) for form in _AS_SOMEBODY for name in names] for kind, names in drawn.items()}
    return people | {"eponyms": people["eponyms"] + things}


def _drawn(words: Iterable[str]) -> list[str]:
    return [word.capitalize() for word in random.Random(1).sample(sorted(words), _EACH)]


def _row(form: str, name: str) -> dict[str, Any]:
    at = form.index("{}")
    return {"text": form.format(name), "spans": [{"start": at, "end": at + len(name), "label": "NAME"}]}
