"""Every reading of a pair: what words alone say, what the bare base says, the reward before and after the hospitals, and the ensembles."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.config import StudyConfig
from server.align.members import Member
from server.align.rewards import Ensemble
from simulations.folds.pairs import ExpertPair
from simulations.folds.recorded import Texts
from simulations.judgement.baselines import Triple, bag_of_words, overlap

Floats = NDArray[np.float64]
Margins = dict[str, Floats]
"""Score of the better answer less that of the worse one (pairs,), by the name of the reading."""

LIKELIHOOD = "question_likelihood"
SHALLOW = ("length", "word_overlap", "bag_of_words")
WITH = "_with_likelihood"


def shallow(train: Sequence[ExpertPair], test: Sequence[ExpertPair]) -> Margins:
    """Longer answer, more words shared with the question, and a logistic bag of words fitted on `train`."""

    def margins(score: Callable[[str, str], float]) -> Floats:
        return np.array([score(p.prompt, p.better) - score(p.prompt, p.worse) for p in test])

    triples: list[Triple] = [(p.prompt, p.better, p.worse) for p in train]
    return dict(zip(SHALLOW, map(margins, (lambda _, answer: len(answer), overlap, bag_of_words(triples))), strict=True))


def learned(
    study: StudyConfig, likelihood: Member, steps: Mapping[str, Sequence[Member]], reference: Texts, test: Sequence[ExpertPair]
) -> Margins:
    """The question likelihood; and for each step of the recipe, its members alone and together with the likelihood, as PPO would combine them.

    Members are brought to one scale on `reference`, public answers that none was trained on.
    """
    found = {LIKELIHOOD: _margins(Ensemble((likelihood,)), test)}
    for name, members in steps.items():
        found[name] = _margins(_ensemble(study, tuple(members), (), reference), test)
        weights = study.ppo.member_weights if len(study.ppo.member_weights) == len(members) + 1 else ()
        found[name + WITH] = _margins(_ensemble(study, (*members, likelihood), weights, reference), test)
    return found


def _ensemble(study: StudyConfig, members: tuple[Member, ...], weights: tuple[float, ...], reference: Texts) -> Ensemble:
    penalty = study.ppo.variance_penalty if len(members) > 1 else 0.0
    combined = Ensemble(members, penalty, weights=weights, combine=study.ppo.combine)
    return combined.fixed_on([prompt for prompt, _ in reference], [text for _, text in reference])


def _margins(reward: Ensemble, test: Sequence[ExpertPair]) -> Floats:
    prompts = [pair.prompt for pair in test]
    better, worse = (reward.combined(reward.score(prompts, texts)) for texts in ([p.better for p in test], [p.worse for p in test]))
    return better - worse
