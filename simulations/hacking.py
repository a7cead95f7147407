"""Can the reward be hacked? PPO against a deliberately flawed reward model, alone and among honest ones under watch.

The flawed member loves length, or one phrase. Alone it is followed wherever it leads; in the ensemble the members' disagreement costs reward
and held-out judges end the run. Both runs share everything else, and neither has a KL penalty, so that only the defence differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.config import Stage, StudyConfig
from common.models import SharedBase
from common.progress import Progress
from server.align.members import Member
from server.align.ppo import Task, train_policy
from server.align.prompts import derived_seed
from server.align.rewards import Ensemble, Reward
from server.align.rollout import sample
from server.align.watch import Watch
from server.evaluate.summary import HackingFigures

Floats = NDArray[np.float64]
PROMPTS, NO_BUDGET = 64, 1e6


@dataclass(frozen=True, slots=True)
class Flawed:
    """A reward model that reads nothing but one shallow trait of an answer."""

    name: str
    trait: Callable[[str], float]

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:  # noqa: ARG002  # a Member sees both
        return np.array([self.trait(text) for text in texts])


LOVES_LENGTH = Flawed("length", lambda text: float(len(text.split())))
LOVES_A_PHRASE = Flawed("phrase", lambda text: float(text.lower().count("you can")) - 0.001 * len(text.split()))
"""A little of the second term: answers without the phrase must not all be alike, or nothing could be learned."""


def experiment(
    study: StudyConfig, base: SharedBase, prompts: Sequence[str], honest: Sequence[Member], judges: Sequence[Member], progress: Progress
) -> list[HackingFigures]:
    """For each flaw, the flawed member alone without watch, then with the `honest` members, λ and the watch. `sft` is on the base.

    Rewards and judges are means over fresh answers to `prompts`, in deviations above those of the SFT model. Leaves no policy behind.
    """
    asked = list(prompts[:PROMPTS])
    before = _answers(study, base, Stage.SFT.value, asked)
    found = []
    for flawed in (LOVES_LENGTH, LOVES_A_PHRASE):
        for protected in (False, True):
            members = (*honest, flawed) if protected else (flawed,)
            penalty = max(study.ppo.variance_penalty, 0.5) if protected else 0.0
            ensemble = Ensemble(members, penalty).fixed_on(asked, before)
            panel = Ensemble(tuple(judges)).fixed_on(asked, before)
            watch = Watch(panel, study.ppo.watch.window, study.ppo.watch.fall) if protected else None
            task = Task(
                _settings(study), base, Stage.SFT.value, prompts, Reward(ensemble, clip=study.ppo.reward_clip), flawed.name, watch=watch
            )
            result = train_policy(task, progress=progress)
            after = _answers(study, base, "policy", asked)
            found.append(
                HackingFigures(
                    flaw=flawed.name, protected=protected, stopped=result.stopped, steps=result.kept_step,
                    flawed_after=_mean(Ensemble((flawed,)).fixed_on(asked, before), asked, after), judge_after=_mean(panel, asked, after),
                    kl=result.records[result.kept_step].figures["kl"],
                )
            )  # fmt: skip
            base.drop("policy")
    return found


def _settings(study: StudyConfig) -> StudyConfig:
    changes = {
        "steps": study.evaluation.hacking_steps, "kl_coefficient": 0.0, "kl_budget": NO_BUDGET, "running_normalisation": False,
        "ptx_coefficient": 0.0,
    }  # fmt: skip
    return study.model_copy(update={"ppo": study.ppo.model_copy(update=changes)})


def _mean(ensemble: Ensemble, prompts: Sequence[str], texts: Sequence[str]) -> float:
    return float(ensemble.score(prompts, texts).mean())


def _answers(study: StudyConfig, base: SharedBase, name: str, prompts: Sequence[str]) -> list[str]:
    answers = sample(
        base, name, prompts, max_new_tokens=study.ppo.max_new_tokens, temperature=study.ppo.temperature,
        seed=derived_seed(study.seed, "hacking"), max_prompt_tokens=study.model.max_prompt_tokens,
    )  # fmt: skip
    return [answer.text for answer in answers]
