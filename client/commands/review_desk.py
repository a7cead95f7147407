"""A note on the terminal and one key for it. The text goes to the screen and nowhere else.

c  nothing identifies anybody        l  somebody or something identifies (also when in doubt)        q  stop; go on another day
"""

from collections.abc import Callable

import click
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from client.deid.review import Mark
from client.records import CleanNote

_KEYS = {"c": Mark.CLEAN, "l": Mark.LEAK}
_STOP = ("q", "\x03", "\x04")


def show_note(
    note: CleanNote, number: int, count: int, *, console: Console | None = None, key: Callable[[], str] = click.getchar
) -> Mark | None:
    """The reader's mark of one note; None to break off. Any other key shows the keys again."""
    screen = console or Console()
    screen.clear()
    screen.print(Rule(f"note {number} of {count}"))
    texts = [note.text, *(text for dialogue in note.dialogues for text in (dialogue.prompt, dialogue.answer))]
    for text in texts:
        screen.print(Text(text), soft_wrap=True)
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
