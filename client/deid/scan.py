"""One reading of a text, shared by the tiers: its words, its digits, and both with the offsets they came from."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from client.deid.tagger import Floats, Tokens, tagger, tokens
from client.deid.vocabulary.words import WORD, everyday, fold, norm, words

_ALNUM = re.compile(r"[^\W_]+")
_FEW_WORDS = 12
SMALL_WORDS = {
    "en": frozenset(
        [
            "the",
            "of",
            "and",
            "to",
            "is",
            "was",
            "with",
            "for",
            "has",
            "are",
            "that",
            "on",
            "at",
            "by",
            "from",
            "not",
            "this",
            "had",
            "be",
            "or",
            "his",
            "her",
            "she",
            "he",
            "no",
        ]
    ),
    "es": frozenset(
        [
            "el",
            "los",
            "las",
            "del",
            "que",
            "con",
            "por",
            "para",
            "una",
            "se",
            "su",
            "al",
            "como",
            "fue",
            "es",
            "y",
            "sin",
            "en",
            "lo",
            "le",
            "desde",
            "un",
            "refiere",
            "nombre",
            "apellidos",
            "paciente",
        ]
    ),
    "de": frozenset(
        [
            "der",
            "die",
            "das",
            "und",
            "mit",
            "von",
            "zu",
            "ist",
            "wurde",
            "im",
            "den",
            "dem",
            "des",
            "ein",
            "eine",
            "bei",
            "auf",
            "nicht",
            "am",
            "sich",
            "nach",
            "wir",
            "war",
            "herr",
            "frau",
            "geb",
        ]
    ),
}
_MAX_GAP = 3
"""Characters that may stand between two digits of one number; a line break with its indentation may always."""


@dataclass(frozen=True, slots=True)
class Word:
    start: int
    end: int
    raw: str
    norm: str


class Scan:
    """A text and what every tier asks of it, computed once. Never printed."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Scan(<{len(self.text)} chars>)"

    @cached_property
    def words(self) -> list[Word]:
        return [Word(m.start(), m.end(), m.group(), norm(m.group())) for m in WORD.finditer(self.text)]

    @cached_property
    def _begins(self) -> dict[int, int]:
        return {word.start: i for i, word in enumerate(self.words)}

    def word_at(self, start: int) -> int | None:
        """The index of the word that begins at this offset."""
        return self._begins.get(start)

    @cached_property
    def tokens(self) -> list[Word]:
        """Runs of letters and digits, folded: what addresses are compared by."""
        return [Word(m.start(), m.end(), m.group(), fold(m.group())) for m in _ALNUM.finditer(self.text)]

    @cached_property
    def reading(self) -> tuple[Tokens, Floats]:
        """What the names network reads: its tokens, and (tokens, labels) of probability."""
        read = tokens(self.text)
        return read, tagger().probabilities(read)

    def likelihood(self, start: int, end: int) -> float:
        """The highest probability, of any token within [start, end), to be part of an identifier."""
        starts = self.reading[0].starts
        return max(self._likely[bisect_left(starts, start) : bisect_left(starts, end)], default=0.0)

    @cached_property
    def _likely(self) -> list[float]:
        """Of each token to be part of an identifier."""
        likely: list[float] = (1 - self.reading[1][:, 0]).tolist()
        return likely

    @cached_property
    def _small_words(self) -> dict[str, int]:
        """How many small words of each language stand in the text."""
        found = [word.norm for word in self.words[:2000]]
        return {language: sum(word in small for word in found) for language, small in SMALL_WORDS.items()}

    @cached_property
    def languages(self) -> frozenset[str]:
        """The languages this may be written in, by its small words; a text of few words, or without any, may be in each."""
        counts = self._small_words
        most = max(counts.values())
        if len(self.words) < _FEW_WORDS or most == 0:
            return frozenset(counts)
        return frozenset(language for language, count in counts.items() if count >= max(2, most / 4))

    @cached_property
    def _dictionaries(self) -> list[frozenset[str]]:
        most = max(self._small_words.values())
        spoken = [language for language, count in self._small_words.items() if count and count >= most / 4]
        return [everyday(language) for language in spoken or ["en"]]

    def is_word(self, folded: str) -> bool:
        """Whether medicine, or everyday speech of the text's languages, uses this folded word for something else than a name."""
        return words().is_common(folded) or any(folded in dictionary for dictionary in self._dictionaries)

    @cached_property
    def has_capitals(self) -> bool:
        return any(character.isupper() for character in self.text)

    @cached_property
    def has_small(self) -> bool:
        """Whether any word of more than two letters is in lower case: in a text without, capitals say nothing."""
        return any(word.raw.islower() and len(word.raw) > 2 for word in self.words)

    @cached_property
    def digits(self) -> tuple[str, list[int]]:
        """All digits as one string, with the offset of each."""
        places = [i for i, character in enumerate(self.text) if "0" <= character <= "9"]
        return "".join(self.text[i] for i in places), places

    @cached_property
    def squeezed(self) -> tuple[str, list[int]]:
        """All letters and digits, folded, as one string, with the offset of each."""
        folded = fold(self.text)
        places = [i for i, character in enumerate(folded) if character.isalnum()]
        return "".join(folded[i] for i in places), places

    @cached_property
    def _starts(self) -> list[int]:
        return [word.start for word in self.words]

    def words_in(self, start: int, end: int) -> list[Word]:
        """The words that begin within [start, end)."""
        return self.words[bisect_left(self._starts, start) : bisect_left(self._starts, end)]

    def gap(self, left_end: int, right_start: int) -> str:
        return self.text[left_end:right_start]

    def find_digits(self, number: str) -> Iterator[tuple[int, int]]:
        """(start, end) of every run that reads as `number`, whatever separates its digits.

        A number of fewer than six digits must not be part of a longer run of digits; a longer one is found inside it as well, and the
        whole run is reported.
        """
        digits, places = self.digits
        at = digits.find(number)
        while at >= 0:
            first, last = at, at + len(number) - 1
            whole_first, whole_last = first, last
            while whole_first > 0 and places[whole_first - 1] == places[whole_first] - 1:
                whole_first -= 1
            while whole_last + 1 < len(places) and places[whole_last + 1] == places[whole_last] + 1:
                whole_last += 1
            inside = (whole_first, whole_last) != (first, last)
            if self._joined(places[first : last + 1]) and (len(number) >= 6 or not inside):
                yield places[whole_first], places[whole_last] + 1
                at = digits.find(number, last + 1)
            else:
                at = digits.find(number, at + 1)

    def find_squeezed(self, identifier: str) -> Iterator[tuple[int, int]]:
        """(start, end) of every place that reads as the folded letters and digits of `identifier`, beginning and ending at a border."""
        squeezed, places = self.squeezed
        at = squeezed.find(identifier)
        while at >= 0:
            last = at + len(identifier) - 1
            start, end = places[at], places[last] + 1
            free = not (at > 0 and places[at - 1] == start - 1) and not (last + 1 < len(places) and places[last + 1] == end)
            if free and self._joined(places[at : last + 1]):
                yield start, end
            at = squeezed.find(identifier, at + 1)

    def _joined(self, places: list[int]) -> bool:
        """Whether nothing but separators stands between neighbours."""
        for left, right in pairwise(places):
            if right - left > 1:
                gap = self.text[left + 1 : right]
                if any(character.isalnum() for character in gap) or (len(gap) > _MAX_GAP and "\n" not in gap):
                    return False
        return True
