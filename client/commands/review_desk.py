"""A note on the terminal and one key for it. The text goes to the screen and nowhere else, and is wiped from there with the mark.

c  nothing identifies anybody        l  somebody or something identifies (also when in doubt)        q  stop; go on another day

Protects against: a note that stays in the terminal's scrollback; control characters in a note, which could hide its words from the reader.
Does not protect against: a terminal that records what it shows.
"""

from collections.abc import Callable

import click
from rich.console import Console
from rich.rule import Rule

from client.deid.assurance.review import Mark
from client.records import CleanNote
from common.console import plain

_KEYS = {"c": Mark.CLEAN, "l": Mark.LEAK}
_STOP = ("q", "\x03", "\x04")
_ERASE = "\x1b[2J\x1b[3J\x1b[H"
"""Erase the screen and what was scrolled off it, and go to its top (ECMA-48; `3J` is xterm's, and known to all its kin)."""


def show_note(
    note: CleanNote, number: int, count: int, *, console: Console | None = None, key: Callable[[], str] = click.getchar
) -> Mark | None:
    """The reader's mark of one note; None to break off. Any other key shows the keys again."""
    screen = console or Console()
    _erase(screen)
    try:
        return _shown(screen, note, number, count, key)
    finally:
        _erase(screen)


def _shown(screen: Console, note: CleanNote, number: int, count: int, key: Callable[[], str]) -> Mark | None:
    screen.print(Rule(f"note {number} of {count}"))
    texts = [note.text, *(text for dialogue in note.dialogues for text in (dialogue.prompt, dialogue.answer))]
    for text in texts:
        screen.print(plain(text), soft_wrap=True)
        screen.print(Rule(style="dim"))
    while True:
        screen.print(
            "names, places, dates and numbers you see may be surrogates; mark what is not changed:  [b]c[/b] clean   [b]l[/b] leak, or in doubt   [b]q[/b] stop"
        )
        pressed = key().lower()
        if pressed in _STOP:
            return None
        if pressed in _KEYS:
            return _KEYS[pressed]


def _erase(screen: Console) -> None:
    if screen.is_terminal:
        screen.file.write(_ERASE)
        screen.file.flush()
