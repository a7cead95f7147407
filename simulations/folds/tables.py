"""The tables that a person sees at the end of the folds."""

from rich.table import Table

from server.evaluate.summary import Interval
from simulations.folds.figures import ALL_RATED, FoldsFigures


def pooled(found: FoldsFigures) -> Table:
    sources = list(next(iter(found.pooled.values())))
    table = Table("accuracy on unseen questions", *(source.removeprefix("pref_") for source in sources), "without the first fold")
    for name, by_source in found.pooled.items():
        table.add_row(_words(name), *(_cell(by_source[source]) for source in sources), _cell(found.untouched[name][ALL_RATED]))
    if found.epsilon is not None:
        table.caption = f"private: ε = {found.epsilon:.2f} at δ = {found.delta:g} for one {found.unit}, σ = {found.noise_multiplier:.2f}"
    return table


def by_fold(found: FoldsFigures) -> Table:
    table = Table("rated pairs, fold by fold", *(f"{number + 1} ({fold.pairs})" for number, fold in enumerate(found.folds)))
    for name in found.pooled:
        table.add_row(_words(name), *(f"{fold.accuracy[name][ALL_RATED].value:.3f}" for fold in found.folds))
    return table


def gain(found: FoldsFigures) -> Table:
    baselines = list(next(iter(found.gain.values())))
    table = Table("accuracy above a baseline, rated pairs", *map(_words, baselines))
    for name, by_baseline in found.gain.items():
        table.add_row(_words(name), *(_cell(by_baseline[baseline]) for baseline in baselines))
    return table


def _words(name: str) -> str:
    return name.replace("_with_likelihood", " + question likelihood").replace("_", " ")


def _cell(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
