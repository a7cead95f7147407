"""The command of wardround that tests the reward recipe on experts' pairs, fold by fold."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.config import load_study
from common.console import print_json
from common.errors import ConfigError
from common.terminal import progress_on
from server.evaluate.summary import Interval
from simulations.folds.figures import ALL_RATED, FoldsFigures


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
    from simulations.folds.trial import run_folds
    from simulations.machine.workers import threads
    from simulations.sources.datasets import PublicSource

    with progress_on() as progress, threads(1):
        base = shared_base(study.model.base, study.model.dtype)
        found = run_folds(study, PublicSource(study, data), base, out, folds=count, progress=progress)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        Console().print(_pooled(found), _by_fold(found), _gain(found))


def _pooled(found: FoldsFigures) -> Table:
    sources = list(next(iter(found.pooled.values())))
    table = Table("accuracy on unseen questions", *(source.removeprefix("pref_") for source in sources), "without the first fold")
    for name, by_source in found.pooled.items():
        table.add_row(_words(name), *(_cell(by_source[source]) for source in sources), _cell(found.untouched[name][ALL_RATED]))
    if found.epsilon is not None:
        table.caption = f"private: ε = {found.epsilon:.2f} at δ = {found.delta:g} for one {found.unit}, σ = {found.noise_multiplier:.2f}"
    return table


def _by_fold(found: FoldsFigures) -> Table:
    table = Table("rated pairs, fold by fold", *(f"{number + 1} ({fold.pairs})" for number, fold in enumerate(found.folds)))
    for name in found.pooled:
        table.add_row(_words(name), *(f"{fold.accuracy[name][ALL_RATED].value:.3f}" for fold in found.folds))
    return table


def _gain(found: FoldsFigures) -> Table:
    baselines = list(next(iter(found.gain.values())))
    table = Table("accuracy above a baseline, rated pairs", *map(_words, baselines))
    for name, by_baseline in found.gain.items():
        table.add_row(_words(name), *(_cell(by_baseline[baseline]) for baseline in baselines))
    return table


def _words(name: str) -> str:
    return name.replace("_with_likelihood", " + question likelihood").replace("_", " ")


def _cell(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


COMMANDS = (folds,)
