"""What a scanner misread: letters that stand for digits, and digits that stand for letters.

    "Darnel1 Mc1ntosh  D0B O7/l4/1986  912-555-0l88"  →  "Darnell Mclntosh  DOB 07/14/1986  912-555-0188"

The repaired copy has the length of the text, so that what is found in one stands at the same place in the other. Nobody sees the copy: the note keeps
its own letters where nothing is masked.

Protects against: names, dates and numbers that no list and no pattern knows because one of their characters was misread.
Does not protect against: two letters read as one ("rn" for "m"), and words that were misread into other words.
"""

import re
from itertools import islice

from client.deid.vocabulary.words import by_hand, fold, words

_MIXED = re.compile(r"(?<![^\W_])(?=[^\W_]*[^\W\d_])(?=[^\W_]*\d)[^\W_]+")
"""A run of letters and digits that holds both."""

_DAMAGED = re.compile(
    r"(?<![^\W_])(?:[A-Za-z]+[01][a-z]{2,}|[a-z]{3,}[01][a-z]*|[A-Z]{3,}0[A-Z]+|[01][a-z]{3,})(?![^\W_])|(?<![^\W_])[lO]\d?/[\dlO]{1,2}/[\dlO]{2,4}|-[0-9]*[lO][0-9lO]*\d(?![^\W_])"
)
"""A word with a digit inside it, or a date or number with a letter."""

_FEWEST_DAMAGED = 3
_FEWEST_LETTERS = 2
"""Letters that no digit looks like which make a word of a run, rather than a number."""

_LIKE_DIGITS = str.maketrans({"l": "1", "I": "1", "O": "0", "o": "0", "S": "5", "B": "8"})
_LIKE_SMALL = str.maketrans({"1": "l", "0": "o", "5": "s", "8": "b"})
_LIKE_CAPITALS = str.maketrans({"1": "I", "0": "O", "5": "S", "8": "B"})
_AMBIGUOUS = frozenset("lIOoSB")


def repaired(text: str) -> str | None:
    """The text with its misread characters replaced one for one; None when it does not look misread."""
    damaged = sum(1 for _ in islice(_DAMAGED.finditer(text), _FEWEST_DAMAGED))
    return _MIXED.sub(_repair, text) if damaged == _FEWEST_DAMAGED else None


def _repair(match: re.Match[str]) -> str:
    run = match.group()
    letters = [character for character in run if character.isalpha()]
    telling = sum(character not in _AMBIGUOUS for character in letters)
    if telling == 0 and run[0] not in "BS":
        return run.translate(_LIKE_DIGITS)
    if telling < _FEWEST_LETTERS or len(letters) < len(run) - len(letters):
        return run  # "T2", "B12", "C4a": as it stands
    shouted = all(character.isupper() for character in letters)
    first = "l" if run[0] == "1" and not shouted else run[0].translate(_LIKE_CAPITALS)
    word = first + run[1:].translate(_LIKE_CAPITALS if shouted else _LIKE_SMALL)
    other = run.replace("1", "i")
    return other if "1" in run[1:] and not shouted and not _known(word) and _known(other) else word


def _known(word: str) -> bool:
    lists, folded = words(), fold(word)
    return lists.is_common(folded) or lists.is_name(folded) or folded in by_hand("months_and_days")
