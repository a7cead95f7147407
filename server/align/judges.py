"""The judges of the over-optimisation watch: reward adapters from public pairs that neither the reward nor its pretraining saw."""

from collections.abc import Sequence

from common.config import StudyConfig
from common.errors import ConfigError
from common.models import SharedBase
from common.progress import Progress, Silent
from server.align.pretraining import Pair, pretrain
from server.align.prompts import derived_seed
from server.align.samples import against_samples
from server.registry import Version
from server.run_folder import RunFolder


def judge_lines(study: StudyConfig) -> tuple[str, ...]:
    """The registry lines of the study's judges; none without a watch."""
    return tuple(f"judge-{k}" for k in range(study.ppo.watch.judges))


def train_judges(
    run: RunFolder, base: SharedBase, pairs: Sequence[Pair], *, progress: Progress | None = None, sft: RunFolder | None = None
) -> list[Version]:
    """Train every judge on its own share of `pairs`, from a start of its own, and register it; those that are registered stand.

    Public pairs only, disjoint from those of the reward's pretraining: the caller sees to it. In `reward.pretraining.sampled_share` of them the
    worse answer is one of the SFT model, that of the run `sft` if it is another. Raises ConfigError when there are too few pairs and a
    judge is still to be trained.
    """
    progress = progress or Silent()
    study, lines = run.study, judge_lines(run.study)
    each = study.ppo.watch.pairs
    if any(run.registry.find(line) is None for line in lines) and len(pairs) < each * len(lines):
        raise ConfigError(f"{len(pairs)} pairs are too few for {len(lines)} judges of `ppo.watch.pairs` = {each}; add pairs or lower it")
    versions = []
    for k, line in enumerate(lines):
        found = run.registry.find(line)
        if found is None:
            seed = derived_seed(study.seed, line)
            spec = base.spec(study.reward.adapter.model_copy(update={"seed": seed}), head=True)
            share = against_samples(sft or run, base, pairs[k * each : (k + 1) * each], line, progress)
            done = pretrain(base, spec, share, study.reward, study.model, seed=seed, progress=progress)
            figures = {"pairs": each, "loss": done.steps[-1].loss, "accuracy": done.steps[-1].accuracy}
            found = run.registry.put(line, done.adapter.save, figures=figures)
        versions.append(found)
    return versions
