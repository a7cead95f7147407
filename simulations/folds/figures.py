"""Accuracy by fold, by source and pooled, with 95 % intervals over questions: pairs of one question are not independent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.settings import Frozen
from server.evaluate.intervals import bootstrap_mean
from server.evaluate.quality import accuracy
from server.evaluate.summary import Interval
from simulations.folds.pairs import ExpertPair
from simulations.folds.readings import SHALLOW

Accuracies = dict[str, dict[str, Interval]]
"""By reading, then by source."""
ALL_RATED = "rated"
"""The rated sets together; the sets beside them are never pooled."""
RESAMPLES = 4000


class FoldFigures(Frozen):
    """One fold: what was tested, how many rated pairs were trained on, and the accuracies on the fold's pairs."""

    questions: int
    pairs: int
    trained_on: int
    accuracy: Accuracies


class FoldsFigures(Frozen):
    """`pooled`: each pair by the fold that did not train on its question. `untouched`: the same without the first fold, at which one may look
    while a recipe is chosen. `gain`: by reading, then by baseline, the difference in accuracy on the pooled rated pairs, paired by question.
    `gain_untouched`: the same without the first fold.
    """

    folds: tuple[FoldFigures, ...]
    pooled: Accuracies
    untouched: Accuracies
    gain: dict[str, dict[str, Interval]]
    gain_untouched: dict[str, dict[str, Interval]]
    unit: str
    epsilon: float | None
    delta: float | None
    noise_multiplier: float | None


@dataclass(frozen=True, slots=True)
class FoldResult:
    """The pairs of one fold and every reading's margins on them."""

    pairs: Sequence[ExpertPair]
    trained_on: int
    margins: Mapping[str, NDArray[np.float64]]


def fold_figures(tested: FoldResult) -> FoldFigures:
    rated = [pair for pair in tested.pairs if pair.rated]
    return FoldFigures(
        questions=len({pair.question for pair in rated}), pairs=len(rated), trained_on=tested.trained_on, accuracy=accuracies([tested])
    )


def accuracies(folds: Sequence[FoldResult]) -> Accuracies:
    pairs = [pair for fold in folds for pair in fold.pairs]
    places = {source: [i for i, pair in enumerate(pairs) if pair.source == source] for source in sorted({pair.source for pair in pairs})}
    places = {ALL_RATED: [i for i, pair in enumerate(pairs) if pair.rated], **places}
    found: Accuracies = {}
    for name in folds[0].margins:
        margins = np.concatenate([fold.margins[name] for fold in folds])
        found[name] = {
            source: Interval.of(accuracy(margins[at], [pairs[i].question for i in at], _rng())) for source, at in places.items() if at
        }
    return found


def gains(folds: Sequence[FoldResult]) -> dict[str, dict[str, Interval]]:
    """Accuracy of each learned reading less that of each shallow one, on the rated pairs."""
    pairs = [pair for fold in folds for pair in fold.pairs]
    at = [i for i, pair in enumerate(pairs) if pair.rated]
    questions = [pairs[i].question for i in at]
    right = {name: _right(np.concatenate([fold.margins[name] for fold in folds])[at]) for name in folds[0].margins}
    return {
        name: {
            other: Interval.of(bootstrap_mean(values - right[other], _rng(), resamples=RESAMPLES, clusters=questions)) for other in SHALLOW
        }
        for name, values in right.items()
        if name not in SHALLOW
    }


def _right(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    right: NDArray[np.float64] = (margins > 0) + 0.5 * (margins == 0)
    return right


def _rng() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(0))
