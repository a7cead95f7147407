"""Patterns that are searched for with a look at one character first find what they found without."""

import re

import pytest

from client.deid.rules import dates, names, numbers, places, signatures, spanish
from client.deid.rules.patterns import any_of, searched
from simulations.bench.deid_notes import marked_notes

TEXT = "On 3/4 MRN 12; mrn: 99, x-ray on May 5\nTo: Dr. Kœnig, ſister, İzmir, \u212aelvin 40 K [5]\n\n  ann  (pH 7) ABAB - é^2 ]x"


LOOK = re.compile(r"(?:\(\?m\))?(?P<look>\(\?=(?:\(\?i:)?\[(?:\\.|[^\]\\])+\]\)?\))(?=\(\?:)", re.DOTALL)
"""What `searched` puts in front, and behind it the pattern as it was."""


@pytest.mark.parametrize(
    ("pattern", "flags"),
    [
        (r"\b(?:mrn|x-?ray|may)\b[: ]*(\d+)?", re.IGNORECASE),
        (r"\b(?:mrn|sister|kelvin|izmir)", re.IGNORECASE),  # the long s, the sign of the kelvin
        (r"(?<!\w)(?:[A-Z]\w+|\d{1,2}/\d|[à-þ])", 0),
        (r"(?i:(?<!\w)(?:mrn|ANN)\b)|\b(?:[5\]^-]|[K-M])", 0),
        (r"(?m)(?<!\S)(?:to|[ ]{2}ann|\])[^\n]?", re.IGNORECASE),
        (r"""(?<!\w) (?: on | [ ]ann | \# )  # a comment""", re.IGNORECASE | re.VERBOSE),
        (r"\b(?:Dr\.[ ])?(?:K\w+|M(?-i:RN))", re.IGNORECASE),
        (r"(?<=\bon\s)\S+", re.IGNORECASE),
        (r"\b(?>AB|\d)++", 0),
    ],
)
def test_the_same_matches_and_groups(pattern: str, flags: int) -> None:
    expected = [(match.span(), match.groups()) for match in re.compile(pattern, flags).finditer(TEXT)]
    quick = searched(pattern, flags)
    assert quick.pattern != pattern
    assert expected
    assert [(match.span(), match.groups()) for match in quick.finditer(TEXT)] == expected


@pytest.mark.parametrize("pattern", [r"\b(?:mrn)?", r"(?<!x)(?:)", r"(?<!\w)[^a]", r"(?<!\w).", r"^\s*\w+", "[a-z]+", r"(?<!\w)(?!\d)"])
def test_a_pattern_stays_as_it_is_where_that_is_as_fast_or_its_beginning_is_not_told(pattern: str) -> None:
    assert searched(pattern).pattern == pattern


def test_every_pattern_of_the_rules_finds_the_same_in_clinical_notes() -> None:
    texts = [row["text"] for row in marked_notes("tuned")[:60]]
    compared = 0
    for module in (dates, names, numbers, places, signatures, spanish):
        for value in vars(module).values():
            for pattern in value if isinstance(value, tuple) else (value,):
                if isinstance(pattern, re.Pattern) and (look := LOOK.match(pattern.pattern)) is not None:
                    flags = pattern.flags & (re.IGNORECASE | re.VERBOSE | re.MULTILINE)
                    plain = re.compile(pattern.pattern[: look.start("look")] + pattern.pattern[look.end() :], flags)
                    for text in texts:
                        assert [m.span() for m in plain.finditer(text)] == [m.span() for m in pattern.finditer(text)], pattern.pattern
                    compared += 1
    assert compared > 80


def test_names_of_a_list_are_alternatives_the_longest_first() -> None:
    pattern = re.compile(any_of(["sam's", "sam's_club", "h-e-b"]))
    assert [match.group() for match in pattern.finditer("sam’s club, sam's-club, sam's, h-e-b, hueub")] == [
        "sam’s club",
        "sam's-club",
        "sam's",
        "h-e-b",
    ]
