"""The commands of wardround that try PPO out on a run's own reward: learning and hacking."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from common.console import print_json
from common.progress import Progress
from common.terminal import progress_on
from server.evaluate.report import write_report
from server.evaluate.summary import SUMMARY, HackingFigures, SeedFigures, load_summary
from simulations.report.tables import cell

if TYPE_CHECKING:
    from simulations.world import World

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `simulate`, done at least up to its reward models.")]
Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The public data sets of the run, if it was made with them.")]


def learning(
    run: Run,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="A seed of PPO; may be given several times. 1, 2 and 3 if not given.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Does PPO learn from every seed? The run's settings and reward, judged on held-out questions. A killed trial goes on where it stood."""
    from simulations.trials.learning import learning as trial

    with progress_on() as progress, _world(run, data, progress) as world:
        rows = trial(world, tuple(dict.fromkeys(seeds or (1, 2, 3))))
        _publish(world.run.path, "seeds", rows)
    _tell(rows, SeedFigures, as_json)


def hacking(
    run: Run,
    steps: Annotated[int, typer.Option("--steps", min=1, help="PPO steps of each trial.")] = 14,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Can the reward be hacked? PPO against flawed reward members, alone and among the run's own under watch. Resumes as `learning` does."""
    from simulations.trials.hacking import hacking as trial

    with progress_on() as progress, _world(run, data, progress) as world:
        rows = trial(world, steps)
        _publish(world.run.path, "hacking", rows)
    _tell(rows, HackingFigures, as_json)


@contextmanager
def _world(run: Path, data: Path | None, progress: Progress) -> Iterator["World"]:
    """The run as its own stages saw it, alone with it. Raises StorageError for a folder that holds no run."""
    from server.run_folder import RunFolder
    from simulations.hospitals import source_of
    from simulations.machine.workers import Workers, threads
    from simulations.world import World

    folder = RunFolder.open(run.resolve())
    with folder.alone(), threads(1), Workers(1) as workers:
        yield World(folder, source_of(folder.study, data), progress, workers)


def _publish(run: Path, key: str, rows: Sequence[BaseModel]) -> None:
    """Put the figures into summary.json and the report of a run that has them."""
    if (run / SUMMARY).exists():
        summary = load_summary(run)
        if summary.ppo is not None:
            summary.model_copy(update={"ppo": summary.ppo.model_copy(update={key: tuple(rows)})}).write(run)
            write_report(run)


def _tell(rows: Sequence[BaseModel], kind: type[BaseModel], as_json: bool) -> None:
    if as_json:
        print_json({"rows": [row.model_dump(mode="json") for row in rows]})
    else:
        names = list(kind.model_fields)
        table = Table(*(name.replace("_", " ") for name in names))
        for row in rows:
            table.add_row(*(cell(getattr(row, name)) for name in names))
        Console().print(table)


COMMANDS = (learning, hacking)
