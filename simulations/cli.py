"""wardround: a whole federation on one machine, for researchers.

    wardround simulate CONFIG [--data DIR] [--out RUN] [--resume] [--seed N] [--set key=value …] [--require-gates]
    wardround report RUN [--open]          write RUN/report.html again
    wardround compare RUN RUN … [--csv]    runs side by side

Every command takes --json: one JSON object on standard output, nothing else there. Exit codes: 0 done, 1 refused or failed
with the reason and the remedy on standard error, 2 wrong usage.
"""

import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from common.console import print_json, run_command
from server.evaluate.compare import Cell, compare, names_of
from server.evaluate.report import write_report
from server.evaluate.summary import load_summary

app = typer.Typer(
    name="wardround",
    help="Hospitals align one clinical language model together: simulate a whole federation on one machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `simulate` leaves it.")]


@app.command()
def report(
    run: Run, as_json: Json = False, open_page: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False
) -> None:
    """Write RUN/report.html again from summary.json, metrics.jsonl and config.toml."""
    path = write_report(run)
    if open_page:
        webbrowser.open(path.resolve().as_uri())
    _say({"report": str(path)}, as_json, f"wrote {path}")


@app.command(name="compare")
def compare_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN …", help="Run folders.")],
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every figure as CSV, one line a figure.")] = False,
) -> None:
    """Show runs side by side."""
    found = compare(dict(zip(names_of([str(r) for r in runs]), map(load_summary, runs), strict=True)))
    if as_json:
        print_json({"runs": list(found.runs), "figures": {key: list(row) for key, row in found.rows.items()}})
    elif as_csv:
        sys.stdout.write(found.csv())
    else:
        table = Table("figure", *found.runs)
        for key, row in found.main().items():
            table.add_row(key, *map(_cell, row))
        Console().print(table)


def _cell(value: Cell) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
    return value


def _say(result: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(result)
    else:
        Console().print(sentence, highlight=False, soft_wrap=True)


def main() -> None:
    """The console script."""
    run_command(app, "wardround", interrupted="stopped; run the same command with --resume to continue")


if __name__ == "__main__":
    main()
