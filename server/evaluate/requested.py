"""What the desk may ask of a run with files of its own: accuracy on pairs, and on exam questions. Public text in, numbers out.

Protects against: figures without an interval, and pairs of one prompt counted as if they were independent.
Does not protect against: a file whose texts a model was trained on.
"""

from collections.abc import Sequence

import numpy as np

from common.config import StudyConfig
from common.journal import JSON
from common.models import SharedBase
from server.align.rewards import Ensemble
from server.evaluate.intervals import Estimate, wilson
from server.evaluate.quality import Example, accuracy, accuracy_by, sft_losses
from server.public_texts import ExamQuestion, SitePair


def pair_accuracy(ensemble: Ensemble, pairs: Sequence[SitePair], rng: np.random.Generator) -> dict[str, JSON]:
    """How often the ensemble scores the chosen answer higher, with a 95 % interval; apart by site for the pairs that name one."""
    prompts = [p.pair.prompt for p in pairs]
    chosen, rejected = (
        ensemble.combined(ensemble.score(prompts, texts)) for texts in ([p.pair.chosen for p in pairs], [p.pair.rejected for p in pairs])
    )
    margins = chosen - rejected
    named = [i for i, p in enumerate(pairs) if p.site is not None]
    by_site = accuracy_by(margins[named], [str(pairs[i].site) for i in named]) if named else {}
    return {**_interval("pairs", accuracy(margins, prompts, rng)), "by_site": {site: _interval("pairs", e) for site, e in by_site.items()}}


def exam_accuracy(base: SharedBase, questions: Sequence[ExamQuestion], study: StudyConfig, models: Sequence[str]) -> dict[str, JSON]:
    """Share of questions whose right option has the highest likelihood a token, under the bare base and each adapter of `models`."""
    rows = [Example(q.question, option) for q in questions for option in q.options]
    ends = np.cumsum([len(q.options) for q in questions])
    found: dict[str, JSON] = {}
    for name in (None, *models):
        each = np.split(sft_losses(base, name, rows, study.model), ends[:-1])
        right = sum(int(np.argmin(losses)) == q.right for losses, q in zip(each, questions, strict=True))
        found["base" if name is None else name] = _interval("questions", wilson(float(right), len(questions)))
    chance = float(np.mean([1 / len(q.options) for q in questions]))
    return {"chance": chance, **found}


def _interval(unit: str, e: Estimate) -> dict[str, JSON]:
    return {unit: e.n, "accuracy": e.value, "accuracy_low": e.low, "accuracy_high": e.high}
