"""Training texts: passages with filled slots among sentences that identify nobody, in every case and layout, with a label a token."""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.deid.rules.guard import guarded_by_words, names_a_thing
from client.deid.scan import SMALL_WORDS as _SMALL_WORDS
from client.deid.scan import Scan
from client.deid.tagger import LABELS, Tokens, tokens
from client.deid.vocabulary.words import LANGUAGES, TITLES, everyday, words
from simulations.ner.marked import UNDECIDED, Marked, general_sentences, invented_notes, spanish_reports
from simulations.ner.slots import Slots

_SLOT = re.compile(r"\{(\w+)\}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\[])|\n+")
SOURCES = ("medquad", "pubmedqa", "mts_dialog", "aci_bench", "primock57", "meqsum")
_TEXT_FIELDS = ("answer", "context", "contexts", "note", "dialogue", "section_text", "question", "summary", "text", "chq")
_FOLDER = Path(__file__).with_name("templates")
_OF_OTHERS = ("es", "de", "general", "filler", "nobody")
_TEMPLATES = {
    "en": tuple(sorted(path.stem for path in _FOLDER.glob("*.txt") if path.stem not in _OF_OTHERS)),
    "es": ("es",),
    "de": ("de",),
    "general": ("general",),
}
_SHARES = {"notes": 52, "en": 17, "general": 10, "general_marked": 3, "es": 8, "es_marked": 4, "de": 7}
"""Of a hundred texts: whole notes with marks, passages of templates by language. Most are English."""

_TYPO_SHARE, _LOWER_SHARE, _UPPER_SHARE, _REWRAP_SHARE = 0.05, 0.16, 0.08, 0.12


UNLEARNED = -1


@dataclass(frozen=True, slots=True)
class Example:
    """A text's tokens and the label of each, as an index into `LABELS`; `UNLEARNED` where either answer is right."""

    tokens: Tokens
    labels: np.ndarray[Any, np.dtype[np.int64]]


def templates(name: str) -> list[str]:
    lines = _FOLDER.joinpath(f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.replace("\\n", "\n") for line in lines if line and not line.startswith("#")]


def public_sentences(folder: Path | None, rng: random.Random, *, most: int) -> dict[str, list[str]]:
    """Sentences of public medical texts that name nobody, by language: what the network shall leave alone."""
    return {"en": [], "es": []} if folder is None else {"en": _english(folder, rng, most), "es": _spanish(folder)}


def _spanish(folder: Path) -> list[str]:
    """From every second document of MEDDOCAN, the half that may be learned from: sentences in which the annotators marked nothing."""
    found = []
    rows = (folder / "deid_meddocan_es" / "dev.jsonl").read_text(encoding="utf-8").split("\n")
    for row in map(json.loads, filter(None, rows[::2])):
        marked = [span["start"] for span in row["spans"] if span["label"] not in ("AGE", "SEX", "OTHER")]
        at = 0
        for piece in _SENTENCE.split(row["text"]):
            start = row["text"].index(piece, at)
            at = start + len(piece)
            if 8 < len(piece) < 600 and not any(start <= place < at for place in marked):
                found.append(piece)
    return found


def _english(folder: Path, rng: random.Random, most: int) -> list[str]:
    found: list[str] = []
    for source in SOURCES:
        for path in sorted((folder / source).glob("*.jsonl")):
            lines = path.read_text(encoding="utf-8").split("\n")
            rng.shuffle(lines)
            pieces = [piece for line in lines[:400] if line for text in _texts(json.loads(line)) for piece in _SENTENCE.split(text[:4000])]
            rng.shuffle(pieces)
            found += [piece for piece in pieces[: 2 * most // len(SOURCES)] if 8 < len(piece) < 400 and not _names_anybody(piece)]
    rng.shuffle(found)
    return found[:most]


def _texts(row: dict[str, Any]) -> Iterator[str]:
    for field in _TEXT_FIELDS:
        value = row.get(field)
        yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))


def _names_anybody(sentence: str) -> bool:
    lists, scan = words(), Scan(sentence)
    return any(
        word.norm in TITLES
        or (
            word.raw[0].isupper()
            and len(word.norm) > 2
            and (lists.is_name(word.norm) or word.norm in lists.place_words)
            and not lists.is_common(word.norm)
            and not (guarded_by_words(scan, i) or (names_a_thing(word.norm) and not lists.is_name(word.norm)))
        )
        for i, word in enumerate(scan.words)
    )


class Composer:
    """Endless training texts from one source of randomness."""

    def __init__(self, rng: random.Random, public: dict[str, list[str]], folder: Path | None = None) -> None:
        """`public` are sentences that name nobody; `folder` holds the public sets with marks, and without it none of those is learned from."""
        self._rng, self._public = rng, public
        self._marked = {"notes": Marked(rng, invented_notes(), "en")}
        if folder is not None:
            self._marked["general_marked"] = Marked(rng, general_sentences(folder), "en")
            self._marked["es_marked"] = Marked(rng, spanish_reports(folder), "es")
        self._shares = {kind: share for kind, share in _SHARES.items() if kind in self._marked or not kind.endswith("_marked")}
        filler = "\n".join(line.replace("\n", "\\n") for line in templates("filler")).split("\n----\n")
        self._filler = {
            language: [line.replace("\\n", "\n") for line in block.split("\n")]
            for language, block in zip(("en", "es", "de"), filler, strict=True)
        }
        self._filler["en"] += templates("nobody")
        self._words = {language: sorted(everyday(language) | (words().common if language == "en" else set())) for language in LANGUAGES}
        self._passages = {kind: [line for name in names for line in templates(name)] for kind, names in _TEMPLATES.items()}

    def example(self) -> Example:
        rng = self._rng
        kind = rng.choices(tuple(self._shares), tuple(self._shares.values()))[0]
        if kind in self._marked:
            return self._labelled(self._marked[kind].pieces())
        language = "en" if kind == "general" else kind
        slots = Slots(rng, language)
        pieces: list[tuple[str, str]] = []
        count = 1 if kind == "general" and rng.random() < 0.7 else rng.randint(1, 5)
        for i in range(count):
            if i:
                pieces.append((rng.choice((" ", " ", "\n", "\n\n", "  ")), ""))
            pieces += self._passage(slots, kind, language)
        return self._labelled(pieces)

    def _passage(self, slots: Slots, kind: str, language: str) -> list[tuple[str, str]]:
        rng = self._rng
        if rng.random() < (0.3 if kind == "general" else 0.5):
            roll = rng.random()
            if roll < 0.4 and self._public.get(language):
                return [(rng.choice(self._public[language]), "")]
            if roll < 0.6:
                return [(self._word_salad(language), "")]
            return self._filled(rng.choice(self._filler[language]), slots)
        return self._filled(rng.choice(self._passages[kind]), slots)

    def _word_salad(self, language: str) -> str:
        """A sentence without sense: any word of the dictionary may stand in a text without being a name; German nouns have capitals."""
        rng = self._rng
        small, known = sorted(_SMALL_WORDS[language]), self._words[language]
        found = []
        for _ in range(rng.randint(3, 22)):
            word = rng.choice(small) if rng.random() < 0.4 else rng.choice(known)
            if rng.random() < 0.03:
                word = word[:4] + rng.choice(known)[1:]
            if (language == "de" and rng.random() < 0.35 and len(word) > 3) or rng.random() < 0.03:
                word = word.capitalize()
            found.append(word + (rng.choice((",", ":", " -", ",", f" {rng.randint(1, 99)} mg")) if rng.random() < 0.08 else ""))
        return rng.choice(("", "", "• ", "- ", f"{rng.randint(1, 9)}. ")) + " ".join(found).capitalize() + rng.choice((".", ".", ".", ""))

    def _filled(self, template: str, slots: Slots) -> list[tuple[str, str]]:
        parts = _SLOT.split(template)
        return [slots.fill(part) if i % 2 else (part, "") for i, part in enumerate(parts) if part]

    def _labelled(self, pieces: list[tuple[str, str]]) -> Example:
        rng, roll = self._rng, self._rng.random()
        rewrap = rng.random() < _REWRAP_SHARE
        text, spans = "", []
        for piece, label in pieces:
            if label == "NAME" and len(piece) > 4 and rng.random() < _TYPO_SHARE:
                piece = _misspelt(piece, rng)
            if rewrap and not label:
                piece = piece.replace(" ", "\n", 1) if rng.random() < 0.5 else piece.replace(". ", ".  ")
            piece = piece.lower() if roll < _LOWER_SHARE else piece.upper() if roll < _LOWER_SHARE + _UPPER_SHARE else piece
            if label:
                spans.append((len(text), len(text) + len(piece), UNLEARNED if label == UNDECIDED else LABELS.index(label)))
            text += piece
        read = tokens(text)
        labels = np.zeros(len(read.starts), np.int64)
        for start, end, label_index in spans:
            for i, at in enumerate(read.starts):
                if start <= at < end:
                    labels[i] = label_index
        return Example(read, labels)


def _misspelt(name: str, rng: random.Random) -> str:
    i = rng.randint(1, len(name) - 2)
    return rng.choice((name[:i] + name[i + 1 :], name[:i] + name[i + 1] + name[i] + name[i + 2 :], name[:i] + name[i] + name[i:]))
