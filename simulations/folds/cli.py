"""The command of wardround that tests the reward recipe on experts' pairs, fold by fold."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.config import load_study
from common.console import print_json
from common.errors import ConfigError
from common.terminal import progress_on


def folds(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help='A study with `simulation.source = "public"`, such as configs/study.toml.')
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Public data sets with experts' pairs.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="OUT", help="A folder for the parts that are done; the same command goes on there.")
    ],
    count: Annotated[int, typer.Option("--folds", min=2, help="Folds of whole questions.")] = 5,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the study.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")] = False,
) -> None:
    """How good is the reward on experts' pairs of unseen questions, before and after the hospitals, with and without privacy?"""
    study = load_study(config, overrides or ())
    if study.simulation.source != "public":
        raise ConfigError('folds are of real experts\' pairs; the study needs `simulation.source = "public"`')
    from common.bases import shared_base
    from simulations.folds.tables import by_fold, gain, pooled
    from simulations.folds.trial import run_folds
    from simulations.machine.workers import threads
    from simulations.sources.datasets import PublicSource

    with progress_on() as progress, threads(1):
        base = shared_base(study.model.base, study.model.dtype)
        found = run_folds(study, PublicSource(study, data), base, out, folds=count, progress=progress)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        Console().print(pooled(found), by_fold(found), gain(found))


COMMANDS = (folds,)
