"""Answers of the SFT model, a DP output: candidates for the clinicians, and worse answers for public pairs."""

from collections.abc import Sequence

from common.adapters import Adapter
from common.config import Stage
from common.models import SharedBase
from common.progress import Progress
from server.align.pretraining import Pair
from server.align.prompts import derived_seed
from server.align.rollout import Answer, sample, stop_ids
from server.run_folder import RunFolder


def sft_answers(run: RunFolder, base: SharedBase, prompts: Sequence[str], purpose: str, progress: Progress) -> list[Answer]:
    """One answer a prompt of the run's SFT model, sampled as PPO samples; `purpose` names the draw. Raises ModelUnavailable without one."""
    sft, ppo = Stage.SFT.value, run.study.ppo
    base.put(sft, Adapter.load(run.registry.latest(sft).folder))
    progress.start(f"sample answers: {purpose}", len(prompts))
    return sample(
        base, sft, prompts, max_new_tokens=ppo.max_new_tokens, temperature=ppo.temperature, top_p=ppo.top_p,
        seed=derived_seed(run.study.seed, purpose), max_prompt_tokens=run.study.model.max_prompt_tokens,
        stop_ids=stop_ids(base, ppo.stop_tokens), progress=progress,
    )  # fmt: skip


def against_samples(run: RunFolder, base: SharedBase, pairs: Sequence[Pair], purpose: str, progress: Progress) -> list[Pair]:
    """The first of `pairs` with the SFT model's own answer as the worse one: what PPO will score is unlike anything a person wrote.

    `reward.pretraining.sampled_share` says how many. Raises ModelUnavailable when it is above 0 and there is no SFT model yet.
    """
    sampled = pairs[: round(run.study.reward.pretraining.sampled_share * len(pairs))]
    answers = sft_answers(run, base, [pair.prompt for pair in sampled], purpose, progress) if sampled else []
    return [*(Pair(p.prompt, p.chosen, a.text or p.rejected) for p, a in zip(sampled, answers, strict=True)), *pairs[len(sampled) :]]
