"""Does PPO learn, whatever the seed? The run's own reward and settings from several seeds, judged on held-out questions.

The seed decides on prompts, answers, mini-batches and nothing else: SFT model, reward, its scale and the held-out questions are the run's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from server.align.ppo import FINISHED, PolicyResult
from server.align.stage import Errand, load_models, plan
from server.evaluate.evaluation import evaluate_policy
from server.evaluate.summary import SeedFigures
from simulations.trials.keeping import tried
from simulations.world import World


def learning(world: World, seeds: Sequence[int]) -> list[SeedFigures]:
    """PPO from each of `seeds`, beside the run's own policy. Raises ModelUnavailable when the run has no reward models yet."""
    prompts = world.source.ppo_prompts()
    errand = plan(world.run, world.base, prompts, load_models(world.run, world.base), progress=world.progress)
    return [_from_seed(world, errand, seed) for seed in seeds]


def _from_seed(world: World, errand: Errand, seed: int) -> SeedFigures:
    task = replace(errand.task, study=world.study.model_copy(update={"seed": seed}))

    def measure(result: PolicyResult) -> SeedFigures:
        return _measured(world, errand, seed, result)

    return tried(world.run.path, f"seed-{seed}", task, SeedFigures, measure, world.progress)


def _measured(world: World, errand: Errand, seed: int, result: PolicyResult) -> SeedFigures:
    study, source, ensemble = world.study, world.source, errand.task.reward.ensemble
    assert ensemble is not None
    prompts = source.evaluation_prompts(study.evaluation.prompts)
    found, generations = evaluate_policy(
        world.base, ensemble, prompts, source.judge, study, world.progress,
        judge_name=source.judge_name, steps=result.kept_step, stopped=None if result.stopped == FINISHED else result.stopped,
    )  # fmt: skip
    of_sft = ensemble.combined(ensemble.score(prompts, [g.sft for g in generations]))
    assert found.judge_before is not None
    assert found.judge_after is not None
    return SeedFigures(
        seed=seed, steps=found.steps, stopped=result.stopped, cpu_seconds=sum(sum(r.seconds.values()) for r in result.records), kl=found.kl,
        reward_before=found.reward_before, reward_after=found.reward_after,
        rise=(found.reward_after - found.reward_before) / float(np.std(of_sft)),
        judge_before=found.judge_before, judge_after=found.judge_after,
        win_rate=found.win_rate, win_rate_low=found.win_rate_low, win_rate_high=found.win_rate_high,
    )  # fmt: skip
