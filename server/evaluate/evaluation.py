"""The evaluation of a run: three models on held-out public data, each figure with its interval.

Protects against: a test split that is read before the thresholds are fixed (they stand in the study's configuration), and a judge that the
policy was trained to please (the judge's scores come from outside and are asked for only here).
Does not protect against: a test split that resembles the training data more than real questions do.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from common.config import StudyConfig
from common.models import Encoded, SharedBase
from common.progress import Progress
from server.align.best_of_n import BestOf, best_of
from server.align.members import Member
from server.align.rewards import Ensemble
from server.align.rollout import Answer, sample, stop_ids
from server.evaluate.intervals import Estimate, paired_difference
from server.evaluate.quality import Example, RewardQuality, accuracy, reward_quality, sequence_kl, sft_losses, win_rate
from server.evaluate.summary import Interval, PpoFigures, RewardFigures, SftFigures

Floats = NDArray[np.float64]

BEST_OF_PROMPTS = 32
"""Prompts on which best-of-n is measured: each costs n answers."""
KL_PROMPTS = 32
"""Prompts on which the KL is measured: it sums over the vocabulary at every step, so few answers are enough."""


@dataclass(frozen=True, slots=True, repr=False)
class JudgedPair:
    """Two answers to a held-out prompt, the truth of which is better, and what to report it under ({"on_policy": "yes", …})."""

    prompt: str
    better: str
    worse: str
    groups: Mapping[str, str]

    def __repr__(self) -> str:
        return "JudgedPair(<hidden>)"


@dataclass(frozen=True, slots=True)
class Generation:
    """What both models wrote to one prompt, and what the judge thinks of it."""

    prompt: str
    sft: str
    policy: str
    judge_sft: float
    judge_policy: float


def evaluate_sft(base: SharedBase, name: str, examples: Sequence[Example], config: StudyConfig, progress: Progress) -> SftFigures:
    """Held-out loss of the bare base and of adapter `name` on the same examples."""
    progress.start("held-out loss", 2)
    before = sft_losses(base, None, examples, config.model)
    progress.advance()
    after = sft_losses(base, name, examples, config.model)
    progress.advance()
    gain = paired_difference(before, after, _generator(config, "sft loss"), resamples=config.evaluation.bootstrap)
    return SftFigures(loss_before=float(before.mean()), loss_after=float(after.mean()), improvement=Interval.of(gain))


def evaluate_reward(
    reward: Ensemble,
    pairs: Sequence[JudgedPair],
    baselines: Mapping[str, Estimate],
    config: StudyConfig,
    progress: Progress,
    *,
    batch: int = 32,
    steps: Mapping[str, Member] = MappingProxyType({}),
) -> RewardFigures:
    """Accuracy of ensemble and members on `pairs`, apart by every group that each pair names, and of what came before them, `steps`."""
    progress.start("reward accuracy", len(pairs))
    margins: list[Floats] = []
    combined: list[Floats] = []
    for start in range(0, len(pairs), batch):
        part = pairs[start : start + batch]
        prompts = [p.prompt for p in part]
        better, worse = reward.score(prompts, [p.better for p in part]), reward.score(prompts, [p.worse for p in part])
        margins.append(better - worse)
        combined.append(reward.combined(better) - reward.combined(worse))
        progress.advance(len(part))
    names = [name for name in (pairs[0].groups if pairs else {}) if all(name in p.groups for p in pairs)]
    by_member = np.concatenate(margins, axis=1)
    found = reward_quality(
        np.concatenate(combined),
        by_member,
        own_scale=own_scale(reward, by_member),
        groups={name: [p.groups[name] for p in pairs] for name in names},
        baselines=baselines,
        clusters=[p.prompt for p in pairs],
        rng=_generator(config, "reward accuracy"),
    )
    before = {name: Interval.of(_accuracy_of(member, pairs, config)) for name, member in steps.items()}
    return reward_figures(found).model_copy(update={"steps": before})


def _accuracy_of(member: Member, pairs: Sequence[JudgedPair], config: StudyConfig) -> Estimate:
    prompts = [p.prompt for p in pairs]
    margins = member(prompts, [p.better for p in pairs]) - member(prompts, [p.worse for p in pairs])
    return accuracy(margins, prompts, _generator(config, "reward accuracy"))


def own_scale(reward: Ensemble, margins: Floats) -> Floats:
    """Margins (members, n) of an ensemble → mean margin (n,) in the members' own units, those of the Bradley–Terry loss."""
    deviations = [1.0] * len(margins) if reward.scales is None else [scale.deviation for scale in reward.scales]
    mean: Floats = (margins * np.array(deviations)[:, None]).mean(0)
    return mean


def reward_figures(found: RewardQuality) -> RewardFigures:
    return RewardFigures(
        accuracy=Interval.of(found.ensemble),
        members=tuple(map(Interval.of, found.members)),
        by={group: {value: Interval.of(e) for value, e in by.items()} for group, by in found.by.items()},
        baselines={name: Interval.of(e) for name, e in found.baselines.items()},
        calibration_error=found.calibration_error,
        calibration_error_after=found.calibration_error_after,
        temperature=found.temperature,
    )


def evaluate_policy(
    base: SharedBase,
    reward: Ensemble,
    prompts: Sequence[str],
    judge: Callable[[int, str], float],
    config: StudyConfig,
    progress: Progress,
    *,
    judge_name: str,
    policy: str = "policy",
    sft: str = "sft",
    steps: int,
    stopped: str | None,
) -> tuple[PpoFigures, list[Generation]]:
    """Policy against SFT model on the same prompts, sampled with the same draws; `judge(i, text)` scores an answer to prompt i.

    KL is measured on the first KL_PROMPTS prompts at temperature 1 and with answers as long as PPO's, so that it is the figure PPO bounds.
    """
    asked = config.evaluation
    progress.start("answers to held-out questions", 2 * len(prompts) + len(prompts[:KL_PROMPTS]))

    def answers(name: str, of: Sequence[str], temperature: float, longest: int) -> list[Answer]:
        return sample(
            base, name, of, max_new_tokens=longest, temperature=temperature,
            seed=_seed(config, "answers"), max_prompt_tokens=config.model.max_prompt_tokens,
            stop_ids=stop_ids(base, config.ppo.stop_tokens), progress=progress,
        )  # fmt: skip

    before, after = (answers(name, prompts, asked.temperature, asked.max_new_tokens) for name in (sft, policy))
    free = answers(policy, prompts[:KL_PROMPTS], 1.0, config.ppo.max_new_tokens)
    judged_sft = [judge(i, a.text) for i, a in enumerate(before)]
    judged_policy = [judge(i, a.text) for i, a in enumerate(after)]
    won = win_rate(judged_policy, judged_sft)
    rows = [Encoded((*p, *a.ids), len(p)) for p, a in zip(_encoded(base, prompts[:KL_PROMPTS], config), free, strict=True)]
    progress.start("KL and reward of the answers", 3)
    kl = sequence_kl(base, policy, sft, rows)
    progress.advance()
    rewards: list[float] = []
    for written in (before, after):
        rewards.append(float(reward.combined(reward.score(prompts, [a.text for a in written])).mean()))
        progress.advance()
    figures = PpoFigures(
        reward_before=rewards[0],
        reward_after=rewards[1],
        kl=float(kl.mean()),
        win_rate=won.value,
        win_rate_low=won.low,
        win_rate_high=won.high,
        judge_before=float(np.mean(judged_sft)),
        judge_after=float(np.mean(judged_policy)),
        judge=judge_name,
        steps=steps,
        stopped=stopped,
    )
    texts = zip(prompts, before, after, judged_sft, judged_policy, strict=True)
    return figures, [Generation(p, b.text, a.text, js, jp) for p, b, a, js, jp in texts]


def best_of_sft(
    base: SharedBase, reward: Ensemble, prompts: Sequence[str], judge: Callable[[int, str], float], config: StudyConfig, progress: Progress
) -> list[BestOf]:
    """Best-of-n of the SFT model by the ensemble's reward, sampled as PPO samples; `judge(i, text)` scores an answer to prompt i."""
    n = config.evaluation.best_of
    progress.start("best of n", len(prompts) * n)
    answers = sample(
        base, "sft", [p for p in prompts for _ in range(n)], max_new_tokens=config.evaluation.max_new_tokens, temperature=1.0,
        seed=_seed(config, "best of n"), max_prompt_tokens=config.model.max_prompt_tokens,
        stop_ids=stop_ids(base, config.ppo.stop_tokens), progress=progress,
    )  # fmt: skip
    texts = [[a.text for a in answers[i * n : (i + 1) * n]] for i in range(len(prompts))]

    def judged(asked: Sequence[str], of: Sequence[str]) -> Floats:
        places = {prompt: i for i, prompt in enumerate(prompts)}
        return np.array([judge(places[prompt], text) for prompt, text in zip(asked, of, strict=True)])

    return best_of(prompts, texts, lambda asked, of: reward.combined(reward.score(asked, of)), judged)


def _encoded(base: SharedBase, prompts: Sequence[str], config: StudyConfig) -> list[list[int]]:
    return [base.encode_prompt(p, config.model.max_prompt_tokens) for p in prompts]


def _seed(config: StudyConfig, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{config.seed}/evaluation/{purpose}".encode()).digest()[:8], "big")


def _generator(config: StudyConfig, purpose: str) -> np.random.Generator:
    return np.random.default_rng(_seed(config, purpose))
