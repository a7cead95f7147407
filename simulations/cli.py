"""wardround: a whole federation on one machine, for researchers.

    wardround simulate CONFIG [--data DIR] [--out RUN] [--resume] [--seed N] [--set key=value …] [--require-gates]
    wardround report RUN [--open]          write RUN/report.html again
    wardround compare RUN RUN … [--csv]    runs side by side
    wardround bench [NAME …]               measured comparisons with what others would use
    wardround learning RUN [--seed N …]    does PPO learn from every seed, on the run's own reward?
    wardround hacking RUN [--steps N]      can the reward be hacked, with and without ensemble and watch?
    wardround folds CONFIG --data DIR --out OUT   how good is the reward on experts' pairs of unseen questions?

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

from common.config import load_study
from common.console import plain, print_json, run_command, say
from server.evaluate.compare import compare, names_of
from server.evaluate.report import REPORT, write_report
from server.evaluate.summary import load_summary
from simulations.folds.cli import COMMANDS as FOLDS
from simulations.machine.progress import progress_on
from simulations.report.tables import bench_tables, cell, figures_table, gates_table
from simulations.trials.cli import COMMANDS as TRIALS

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
def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A study in TOML; `configs/` holds examples.")],
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Public data sets that play the hospitals.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="The run folder; runs/STUDY_ID if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN where it stands.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Instead of the study's own seed.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the study.")] = None,
    require_gates: Annotated[bool, typer.Option("--require-gates", help="Exit with 1 when a gate does not hold.")] = False,
    as_json: Json = False,
) -> None:
    """Run a whole study: hospitals, de-identification, federated training, alignment, evaluation, report."""
    study = load_study(config, [*(overrides or ()), *([] if seed is None else [f"seed={seed}"])])
    run = out or Path("runs") / study.study_id
    from simulations.study import run_study  # its libraries take seconds to load; a wrong configuration is told before

    with progress_on() as progress:
        summary = run_study(study, run, data=data, resume=resume, progress=progress)
    if as_json:
        print_json(summary.model_dump(mode="json"))
    else:
        Console().print(figures_table(summary), gates_table(summary))
        say(f"report: {run / REPORT}")
    if require_gates and not summary.passed:
        failed = "; ".join(f"{name}: {gate.reason}" for name, gate in summary.gates.items() if not gate.held)
        number = sum(not gate.held for gate in summary.gates.values())
        sys.stderr.write(f"wardround: {number} of {len(summary.gates)} gates do not hold: {failed}\n")
        raise typer.Exit(1)


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
    if as_json and as_csv:
        raise typer.BadParameter("ask for --json or for --csv, not for both", param_hint="--csv")
    if len({run.resolve() for run in runs}) < len(runs):
        raise typer.BadParameter("name each run once", param_hint="RUN RUN …")
    found = compare(dict(zip(names_of([str(r) for r in runs]), map(load_summary, runs), strict=True)))
    if as_json:
        print_json({"runs": list(found.runs), "figures": {key: list(row) for key, row in found.rows.items()}})
    elif as_csv:
        sys.stdout.write(found.csv())
    else:
        table = Table("figure")
        for name in found.runs:
            table.add_column(plain(name))
        for key, row in found.main().items():
            table.add_row(key, *map(cell, row))
        Console().print(table)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME …]", help="Comparisons to run; all of them if none is named.")] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", min=1, help="Turns that each rival takes.")] = 7,
    as_json: Json = False,
) -> None:
    """Measure ourselves against what others would use, in CPU time, taking turns."""
    from simulations.bench import chosen  # its rivals' libraries take seconds to load

    with progress_on() as progress:
        outcomes = [benchmark.run(repetitions, progress) for benchmark in chosen(names or [])]
    if as_json:
        print_json(outcomes[0].as_json() if len(outcomes) == 1 else {"benchmarks": [outcome.as_json() for outcome in outcomes]})
    else:
        Console().print(*(table for outcome in outcomes for table in bench_tables(outcome)))


for command in (*TRIALS, *FOLDS):
    app.command()(command)


def _say(result: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(result)
    else:
        say(sentence)


def main() -> None:
    """The console script."""
    run_command(app, "wardround", interrupted="stopped; run the same command with --resume to continue")


if __name__ == "__main__":
    main()
