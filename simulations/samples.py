"""Answers of the SFT model, a DP output: candidates for the clinicians, and worse answers for public pairs."""

from collections.abc import Sequence

from common.config import Stage, StudyConfig
from server.align.pretraining import Pair
from server.align.prompts import derived_seed
from server.align.rollout import Answer, sample, stop_ids
from simulations.world import World


def sft_answers(world: World, prompts: Sequence[str], purpose: str) -> list[Answer]:
    """One answer a prompt, sampled as PPO samples; `purpose` names the draw."""
    world.load_line(Stage.SFT.value)
    world.progress.start(f"sample answers: {purpose}", len(prompts))
    ppo = world.study.ppo
    return sample(
        world.base, Stage.SFT.value, prompts, max_new_tokens=ppo.max_new_tokens, temperature=ppo.temperature, top_p=ppo.top_p,
        seed=derived_seed(world.study.seed, purpose), max_prompt_tokens=world.study.model.max_prompt_tokens,
        stop_ids=stop_ids(world.base, ppo.stop_tokens), progress=world.progress,
    )  # fmt: skip


def against_samples(world: World, pairs: Sequence[Pair], purpose: str) -> list[Pair]:
    """The first of `pairs` with the SFT model's own answer as the worse one: what PPO will score is unlike anything a person wrote."""
    sampled = pairs[: round(world.study.reward.pretraining.sampled_share * len(pairs))]
    answers = sft_answers(world, [pair.prompt for pair in sampled], purpose) if sampled else []
    return [*(Pair(p.prompt, p.chosen, a.text or p.rejected) for p, a in zip(sampled, answers, strict=True)), *pairs[len(sampled) :]]


def pairs_of_judges(world: World, study: StudyConfig) -> list[Pair]:
    """Public pairs for the judges of `study`, none of them seen by the reward's pretraining, each judge with its share of sampled answers."""
    watch = study.ppo.watch
    pairs = world.source.judge_pairs(watch.judges * watch.pairs)
    shares = (pairs[k * watch.pairs : (k + 1) * watch.pairs] for k in range(watch.judges))
    return [pair for k, share in enumerate(shares) for pair in against_samples(world, share, f"judge-{k}")]
