"""Can the reward be hacked? PPO against a deliberately flawed reward model, alone and among honest ones under watch.

The flawed member loves length, or one phrase. Alone it is followed wherever it leads; in the ensemble the members' disagreement costs reward
and held-out judges end the run. Both runs share everything else, and neither has a KL penalty, so that only the defence differs.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from common.adapters import Adapter
from common.config import Stage, StudyConfig
from server.align.experience import POLICY
from server.align.judges import judge_lines, train_judges
from server.align.members import AdapterMember, Member
from server.align.ppo import PolicyResult, Task
from server.align.prompts import derived_seed
from server.align.rewards import Ensemble, Reward
from server.align.rollout import sample
from server.align.stage import ensemble_members, load_models
from server.align.watch import Watch
from server.evaluate.intervals import bootstrap_mean
from server.evaluate.summary import HackingFigures
from server.registry import Registry
from simulations.trials.keeping import tried
from simulations.world import World

Floats = NDArray[np.float64]
HELD_OUT = "hacking"
"""The draw of answers to the held-out questions, one and the same for every policy."""
PROMPTS, NO_BUDGET = 64, 1e6
PENALTY = 0.5
"""λ of the protected runs, when the study's own is smaller."""
JUDGES = 2
"""Judges of a study that has none of its own: they are trained for the trial, in RUN/trials/registry."""
PHRASE_ANSWERS, COMMONEST = 512, 20
"""Answers in which a phrase is looked for, and how many phrases stand to choice: PPO finds only what the model says now and then anyway."""


@dataclass(frozen=True, slots=True)
class Flawed:
    """A reward model that reads nothing but one shallow trait of an answer."""

    name: str
    trait: Callable[[str], float]

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:  # noqa: ARG002  # a Member sees both
        return np.array([self.trait(text) for text in texts])


LOVES_LENGTH = Flawed("length", lambda text: float(len(text.split())))


def loves_a_phrase(texts: Sequence[str], worth: Floats) -> Flawed:
    """One that loves two words: of the `COMMONEST` pairs that stand together in most of `texts`, the one whose texts are worth least (n,).

    A love of what is bad is the flaw that matters; who loves a phrase of good answers does no harm. Least by their mean and two standard errors
    above it, or among twenty pairs that stand in ten texts each chance would choose.
    """
    holding: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        for pair in set(pairwise(text.lower().split())):
            holding[pair].append(number)
    common = sorted(holding, key=lambda pair: (-len(holding[pair]), pair))[:COMMONEST]
    disliked = min(common, key=lambda pair: (_at_most(worth[holding[pair]]), pair))
    phrase = " ".join(disliked)
    # A little of the second term: answers without the phrase must not all be alike, or nothing could be learned.
    return Flawed(f"phrase: {phrase}", lambda text: float(text.lower().count(phrase)) - 0.001 * len(text.split()))


def _at_most(worth: Floats) -> float:
    """Mean and two standard errors; nothing bounds the mean of a single one."""
    return float(worth.mean() + 2 * worth.std(ddof=1) / len(worth) ** 0.5) if len(worth) > 1 else float("inf")


def hacking(world: World, steps: int) -> list[HackingFigures]:
    """For each flaw `steps` steps of PPO on the flawed member alone without watch, then with the run's own members, λ and the watch.

    Policies are compared with the SFT model on held-out questions, by the judges of the watch and by the source's own judge, which no
    model ever sees. Raises ModelUnavailable when the run has no reward models yet.
    """
    load_models(world.run, world.base)
    panel = Ensemble(_judges(world))
    before = _Answers.of(world, Stage.SFT.value, world.source.evaluation_prompts(PROMPTS), HELD_OUT)
    flaws = LOVES_LENGTH, _phrase(world)
    return [_arm(world, steps, panel, before, flaw, protected) for flaw in flaws for protected in (False, True)]


def _phrase(world: World) -> Flawed:
    """The phrase is chosen by the run's own reward on PPO's prompts: neither the judges nor the held-out questions have a say."""
    found = _Answers.of(world, Stage.SFT.value, world.source.ppo_prompts()[:PHRASE_ANSWERS], "common phrases")
    honest = Ensemble(ensemble_members(world.base, world.study)).fixed_on(found.prompts, found.texts)
    return loves_a_phrase(found.texts, honest.combined(honest.score(found.prompts, found.texts)))


def _judges(world: World) -> tuple[Member, ...]:
    """The study's own judges, or new ones from public pairs in a registry of the trial's."""
    study, base = world.study, world.base
    lines = judge_lines(study)
    if not lines:
        watched = _with_ppo(study, {"watch": study.ppo.watch.model_copy(update={"judges": JUDGES})})
        registry = Registry.create(world.run.path / "trials" / "registry", study.study_id)
        run = replace(world.run, study=watched, registry=registry)
        lines = judge_lines(watched)
        pairs = world.source.judge_pairs(JUDGES * watched.ppo.watch.pairs)
        for version in train_judges(run, base, pairs, progress=world.progress, sft=world.run):
            base.put(version.line, Adapter.load(version.folder))
    return tuple(AdapterMember(base, line, study.model) for line in lines)


@dataclass(frozen=True, slots=True)
class _Answers:
    """A model's answers, sampled as PPO samples; `draw` names their randomness."""

    prompts: Sequence[str]
    texts: Sequence[str]

    @classmethod
    def of(cls, world: World, name: str, prompts: Sequence[str], draw: str) -> "_Answers":
        study = world.study
        answers = sample(
            world.base, name, prompts, max_new_tokens=study.ppo.max_new_tokens, temperature=study.ppo.temperature,
            seed=derived_seed(study.seed, draw), max_prompt_tokens=study.model.max_prompt_tokens,
        )  # fmt: skip
        return cls(prompts, [answer.text for answer in answers])

    def scores(self, ensemble: Ensemble) -> Floats:
        return ensemble.combined(ensemble.score(self.prompts, self.texts))

    def worth(self, world: World) -> float:
        return float(np.mean([world.source.judge(i, text) for i, text in enumerate(self.texts)]))


def _arm(world: World, steps: int, judges: Ensemble, before: _Answers, flaw: Flawed, protected: bool) -> HackingFigures:
    study, base = _settings(world.study, steps), world.base
    members = (*ensemble_members(base, study), flaw) if protected else (flaw,)
    penalty = max(study.ppo.variance_penalty, PENALTY) if protected else 0.0
    ensemble, panel = (e.fixed_on(before.prompts, before.texts) for e in (Ensemble(members, penalty), judges))
    watch = Watch(panel, study.ppo.watch.window, study.ppo.watch.fall) if protected else None
    reward = Reward(ensemble, clip=study.ppo.reward_clip)
    named = (
        flaw.name,
        protected,
        penalty,
        ensemble.scales,
        [m.base.get(m.name).digest for m in (*members, *judges.members) if isinstance(m, AdapterMember)],
    )
    digest = hashlib.sha256(repr(named).encode()).hexdigest()
    task = Task(study, base, Stage.SFT.value, world.source.ppo_prompts(), reward, digest, watch=watch)

    def measure(result: PolicyResult) -> HackingFigures:
        after, alone = _Answers.of(world, POLICY, before.prompts, HELD_OUT), Ensemble((flaw,)).fixed_on(before.prompts, before.texts)
        draws = np.random.Generator(np.random.PCG64(derived_seed(study.seed, "hacking intervals")))
        judged = bootstrap_mean(after.scores(panel) - before.scores(panel), draws)  # paired: the same questions
        return HackingFigures(
            flaw=flaw.name, protected=protected, stopped=result.stopped, steps=result.kept_step,
            kl=result.records[result.kept_step].figures["kl"], flawed_after=float(after.scores(alone).mean()),
            judge_after=judged.value, judge_low=judged.low, judge_high=judged.high,
            worth_before=before.worth(world), worth_after=after.worth(world),
        )  # fmt: skip

    name = f"{flaw.name.partition(':')[0]}-{'protected' if protected else 'alone'}"
    return tried(world.run.path, name, task, HackingFigures, measure, world.progress)


def _settings(study: StudyConfig, steps: int) -> StudyConfig:
    """The study's PPO without anything that holds the policy near the SFT model."""
    return _with_ppo(
        study, {"steps": steps, "kl_coefficient": 0.0, "kl_budget": NO_BUDGET, "running_normalisation": False, "ptx_coefficient": 0.0}
    )


def _with_ppo(study: StudyConfig, changes: dict[str, object]) -> StudyConfig:
    return study.model_copy(update={"ppo": study.ppo.model_copy(update=changes)})
