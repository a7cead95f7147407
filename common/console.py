"""What the three commands share: one JSON object or one sentence, and the same exit codes.

0 done; 1 refused or failed, with the reason and the remedy on standard error; 2 wrong usage. With --json a failure is one object on
standard output as well: {"error": {"code", "reason"}}, with the code of `common/errors.py`, or `usage`, `interrupted`, `fault`.
The message of an unexpected error is never shown, nor the path in it: it may quote what it choked on, and that may be text of a note.

Protects against: words of others (a file's name, a coordinator's message, a bundle's lines) that a terminal would obey or a reader would not
see: escape sequences, marks that turn the direction of writing, rich's own markup.
Does not protect against: letters that look like others.
"""

import errno
import io
import json
import os
import sys
import traceback
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import click
import typer
from rich.console import Console
from rich.text import Text

from common.errors import WardroundError
from common.journal import JSON
from common.storage import is_of_the_system, remedy

INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt."""


def print_json(result: Mapping[str, JSON]) -> None:
    """One object on standard output; the caller prints nothing else there, and ends with `typer.Exit` when the result is no success.

    In ASCII where standard output is not UTF-8: JSON has no other encoding.
    """
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(result, ensure_ascii=ascii_only, allow_nan=False) + "\n")


def say(sentence: str) -> None:
    """Words for a person on standard output, as they are: no part of them is taken for markup, an emoji or a control sequence."""
    Console().print(plain(sentence), soft_wrap=True)


def plain(text: str) -> Text:
    """A text for a cell of a table, likewise."""
    return Text(visible(text))


def visible(text: str) -> str:
    """Every control and format character but the end of a line and the tabulator as U+FFFD."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t" else c for c in text)


def run_command(app: typer.Typer, name: str, *, interrupted: str = "stopped; run the same command again to continue") -> None:
    """Run a typer app as the console script `name` and end the process with its exit code."""
    _prepare_streams()
    try:
        # Without click's own handling: it would end an interrupt with a code that is none of ours.
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()  # a full disk behind `> file` is told now, not when the interpreter ends
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        _end("usage", error.format_message(), error.exit_code)
    except WardroundError as error:
        _end(error.code, str(error), 1, told_by=name)
    except (KeyboardInterrupt, click.Abort):
        _end("interrupted", interrupted, 1, told_by=name)
    except BrokenPipeError:
        # Whoever read our output went away (`… | head`): there is nobody left to tell. The interpreter's last flush must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("WARDROUND_TRACEBACK"):
            traceback.print_exc()
        if isinstance(error, OSError) and is_of_the_system(error):
            _end("storage", f"{remedy(error)} ({_where(error)})", 1, told_by=name)
        _end("fault", f"a fault in the program: {_where(error)}, and please report it", 1, told_by=name)


def _prepare_streams() -> None:
    """Streams that whoever started us closed are empty; a character that the terminal's encoding lacks is shown by its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _end(code: str, reason: str, status: int, *, told_by: str | None = None) -> None:
    """Tell a failure to a person and, where one object was asked for, to a program; then end."""
    if told_by is not None:
        sys.stderr.write(f"{told_by}: {reason}\n")
    try:
        if "--json" in sys.argv[1:]:  # read here, since a command line that cannot be parsed asks for it too
            print_json({"error": {"code": code, "reason": reason}})
        sys.stdout.flush()
    except OSError:  # a full disk behind `> file`: standard error was told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _where(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    system = f" ({errno.errorcode.get(error.errno, error.errno)})" if isinstance(error, OSError) and error.errno is not None else ""
    return f"{type(error).__name__}{system} at {Path(last.filename).name}:{last.lineno}; set WARDROUND_TRACEBACK=1 to see more"
