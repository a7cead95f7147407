"""Patterns that are looked for in whole texts.

Python's engine skips to where a pattern can begin only if it begins with a character of known case. Most of ours begin with a boundary, or with what
must not stand in front of them, or ignore case: at every place of a text every alternative was tried. `searched` lets the engine look at one character
first. A match begins with one of these anyhow, so that nothing else is found, in two thirds of the time.
"""

import re
from collections.abc import Iterable
from re import _constants as sre  # type: ignore[attr-defined] # the engine's own parser: no other knows all of its syntax
from re import _parser  # type: ignore[attr-defined]
from typing import Any

_GLOBAL_FLAGS = re.compile(r"\(\?[aimsux]+\)")
_CLASSES = {
    sre.CATEGORY_DIGIT: r"\d", sre.CATEGORY_NOT_DIGIT: r"\D", sre.CATEGORY_SPACE: r"\s", sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w", sre.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip
_EMPTY = ""
"""Stands among first characters for a piece that may match nothing: what follows it may come first."""


def searched(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """`re.compile(pattern, flags)`, faster to search with: the same matches with the same groups. Where it cannot be told what a match begins with,
    and where it may be empty, it is the pattern as it is."""
    pieces = _parser.parse(pattern, flags)
    code, argument = pieces[0]
    while code is sre.SUBPATTERN:
        code, argument = argument[-1][0]
    ignores_case = flags & re.IGNORECASE or "(?i" in pattern
    swift = argument is sre.AT_BEGINNING if code is sre.AT else code not in (sre.ASSERT, sre.ASSERT_NOT)
    try:
        first = {_EMPTY} if swift and not ignores_case else _first(pieces)
    except _Untold:
        first = {_EMPTY}
    if _EMPTY in first:
        return re.compile(pattern, flags)
    leading = _GLOBAL_FLAGS.match(pattern)
    ahead = leading.end() if leading else 0
    characters = f"[{''.join(sorted(first))}]"
    if ignores_case:  # some part of it, perhaps not the first
        characters = f"(?i:{characters})"
    line_break = "\n" if flags & re.VERBOSE else ""  # ends a comment
    return re.compile(f"{pattern[:ahead]}(?={characters})(?:{pattern[ahead:]}{line_break})", flags)


def any_of(names: Iterable[str]) -> str:
    """Alternatives for a pattern, of names as `lists.toml` writes them: "_" for spaces or a hyphen, "'" for either apostrophe."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return "|".join(re.escape(name).replace("_", r"[\s-]+").replace("'", "['’]") for name in longest_first)


class _Untold(Exception):
    """What a match begins with cannot be told."""


def _first(sequence: Iterable[tuple[Any, Any]]) -> set[str]:
    """The characters, ranges and classes, as they stand between square brackets, that a match of parsed pieces can begin with."""
    first: set[str] = set()
    for code, argument in sequence:
        if code in (sre.AT, sre.ASSERT, sre.ASSERT_NOT):
            continue
        piece = _of_piece(code, argument)
        first |= piece - {_EMPTY}
        if _EMPTY not in piece:
            return first
    return first | {_EMPTY}


def _of_piece(code: Any, argument: Any) -> set[str]:
    if code is sre.LITERAL:
        return {re.escape(chr(argument))}
    if code is sre.IN:
        return {_item(*item) for item in argument}
    if code is sre.BRANCH:
        return set().union(*map(_first, argument[1]))
    if code is sre.SUBPATTERN:
        return _first(argument[-1])
    if code is sre.ATOMIC_GROUP:
        return _first(argument)
    if code in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        least, _, repeated = argument
        return _first(repeated) | ({_EMPTY} if least == 0 else set())
    raise _Untold


def _item(code: Any, argument: Any) -> str:
    if code is sre.LITERAL:
        return re.escape(chr(argument))
    if code is sre.RANGE:
        return "-".join(re.escape(chr(end)) for end in argument)
    if code is sre.CATEGORY:
        return _CLASSES[argument]
    raise _Untold  # everything but some characters
