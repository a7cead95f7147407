"""Whole texts with marked identifiers as training texts: the frames stay, the people, towns and numbers in them change every time.

Passages teach what stands around an identifier, whole notes what a page of them looks like: the first 522 taught the network more than thousands of passages had.
They are the invented notes of `notes/`, and of the public sets the parts that may be learned from: every second document of MEDDOCAN, a third of the
templates of presidio-research. What `simulations/bench` measures with is never read here.
"""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from client.deid.vocabulary.words import PARTICLES, by_hand, fold, words
from simulations.bench.deid_notes import parse_marked
from simulations.ner.names import INITIALS, People
from simulations.ner.places import Places

UNDECIDED = "OTHER"
"""The label of what may be masked or not: nothing is learned from it."""

WHOLE_SHARE, NEW_NAME_SHARE, NEW_PLACE_SHARE, NEW_NUMBER_SHARE = 0.3, 0.7, 0.6, 0.7
"""Of the texts that are the whole note; of the names, places, and numbers that are exchanged."""

_WORD, _DIGITS = re.compile(r"[^\W\d_]+"), re.compile(r"\d+")
_LABELS = {"PHONE": "ID", "EMAIL": "ID", "URL": "ID", "AGE": "", "SEX": "", "PROFESSION": "", "TITLE": ""}
_FOLDER = Path(__file__).with_name("notes")

Row = dict[str, Any]


def invented_notes() -> list[Row]:
    """Rows {"text", "spans"} of all files of `notes/`."""
    return [row for path in sorted(_FOLDER.glob("*.toml")) for row in parse_marked(path.read_text(encoding="utf-8"))]


def spanish_reports(folder: Path) -> list[Row]:
    """Every second document of MEDDOCAN, the half that may be learned from."""
    return _read(folder / "deid_meddocan_es")[::2]


def general_sentences(folder: Path) -> list[Row]:
    """The third of the templates of presidio-research that may be learned from."""
    return [row for row in _read(folder / "deid_presidio_synth") if int(row["template_id"]) % 3 == 0]


def _read(folder: Path) -> list[Row]:
    return [json.loads(line) for line in (folder / "dev.jsonl").read_text(encoding="utf-8").split("\n") if line]


class Marked:
    """Stretches of marked texts of one language, as pieces of text with their labels."""

    def __init__(self, rng: random.Random, rows: Sequence[Row], language: str) -> None:
        self._rng, self._rows = rng, rows
        self._people = People(rng, language)
        self._places = Places(rng, language, self._people)

    def pieces(self) -> list[tuple[str, str]]:
        """A text, or some of its lines in a row."""
        rng = self._rng
        row = rng.choice(self._rows)
        text, spans = row["text"], row["spans"]
        start, end = 0, len(text)
        if rng.random() > WHOLE_SHARE:
            borders = [0, *(i + 1 for i, character in enumerate(text) if character == "\n"), len(text)]
            borders = [at for at in borders if not any(span["start"] < at < span["end"] for span in spans)]
            first, last = sorted(rng.sample(range(len(borders)), 2))
            if text[borders[first] : borders[last]].strip():  # not an empty line alone
                start, end = borders[first], borders[last]
        found, at = [], start
        for span in spans:
            if start <= span["start"] and span["end"] <= end:
                found += [(text[at : span["start"]], ""), self._exchanged(text[span["start"] : span["end"]], span)]
                at = span["end"]
        return [piece for piece in (*found, (text[at:end], "")) if piece[0]]

    def _exchanged(self, text: str, span: dict[str, Any]) -> tuple[str, str]:
        rng, label = self._rng, span["label"]
        if label == "NAME" and rng.random() < NEW_NAME_SHARE:
            text = _WORD.sub(lambda match: self._name(match.group()), text)
        elif label in ("LOCATION", "ORGANIZATION"):
            label = _kind_of_place(text)
            if rng.random() < NEW_PLACE_SHARE:
                text = _DIGITS.sub(self._number, _WORD.sub(lambda match: self._place(match.group()), text))
        elif _LABELS.get(label, label) == "ID" and rng.random() < NEW_NUMBER_SHARE:
            text = _DIGITS.sub(self._number, text)
        return text, _LABELS.get(label, label)

    def _name(self, word: str) -> str:
        rng, folded, lists = self._rng, fold(word), words()
        if len(word) == 1:
            return _as(word, rng.choice(INITIALS))
        if folded in PARTICLES:
            return word
        given = folded in lists.first and (folded not in lists.last or rng.random() < 0.5)
        return _as(word, self._people.given_word() if given else self._people.family_word())

    def _place(self, word: str) -> str:
        folded, lists = fold(word), words()
        if len(word) < 3 or lists.is_common(folded) or not (lists.is_name(folded) or folded in lists.place_words):
            return word
        return _as(word, self._people.family_word() if self._rng.random() < 0.5 else self._places.city())

    def _number(self, match: re.Match[str]) -> str:
        return "".join(self._rng.choice("0123456789") if i else self._rng.choice("123456789") for i in range(len(match.group())))


def _as(word: str, new: str) -> str:
    """`new` in the case of `word`."""
    return new.upper() if word.isupper() and (len(word) > 1 or len(new) == 1) else new.lower() if word.islower() else new


def _kind_of_place(text: str) -> str:
    """What the network calls it: an institution when a word of one stands in it, or no word of a place."""
    folded, lists = [fold(word) for word in _WORD.findall(text)], words()
    if any(word in by_hand("facility_words") or word in by_hand("care_words") for word in folded):
        return "ORGANIZATION"
    near = any(word in lists.places or word in lists.place_words or word in lists.street_suffixes for word in folded)
    return "LOCATION" if near or any(c.isdigit() for c in text) else "ORGANIZATION"
