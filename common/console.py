"""What the three commands share: one JSON object or one sentence, and the same exit codes.

0 done; 1 refused or failed, with the reason and the remedy on standard error; 2 wrong usage.
The message of an unexpected error is never shown: it may quote what it choked on, and that may be text of a note.
"""

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import click
import typer

from common.errors import WardroundError
from common.journal import JSON

INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt."""


def print_json(result: Mapping[str, JSON]) -> None:
    """One object on standard output; the caller prints nothing else there."""
    sys.stdout.write(json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n")


def run_command(app: typer.Typer, name: str, *, interrupted: str = "stopped; run the same command again to continue") -> None:
    """Run a typer app as the console script `name` and end the process with its exit code."""
    try:
        # Without click's own handling: it would end an interrupt with a code that is none of ours.
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except WardroundError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write(f"{name}: {interrupted}\n")
        sys.exit(1)
    except Exception as error:
        if os.environ.get("WARDROUND_TRACEBACK"):
            traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        sys.stderr.write(
            f"{name}: a fault in the program: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}; "
            "set WARDROUND_TRACEBACK=1 to see more, and please report it\n"
        )
        sys.exit(1)
