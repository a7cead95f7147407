"""The judges of the over-optimisation watch: reward adapters from public pairs that neither the reward nor its pretraining saw."""

from collections.abc import Sequence

from common.config import StudyConfig
from common.errors import ConfigError
from common.models import SharedBase
from common.progress import Progress
from server.align.pretraining import Pair, pretrain
from server.align.prompts import derived_seed
from server.registry import Version
from server.run_folder import RunFolder


def judge_lines(study: StudyConfig) -> tuple[str, ...]:
    """The registry lines of the study's judges; none without a watch."""
    return tuple(f"judge-{k}" for k in range(study.ppo.watch.judges))


def train_judges(run: RunFolder, base: SharedBase, pairs: Sequence[Pair], *, progress: Progress | None = None) -> list[Version]:
    """Train every judge on its own share of `pairs`, from a start of its own, and register it; those that are registered stand.

    Public pairs only, disjoint from those of the reward's pretraining: the caller sees to it. Raises ConfigError when there are too few
    and a judge is still to be trained.
    """
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
            done = pretrain(base, spec, pairs[k * each : (k + 1) * each], study.reward, study.model, seed=seed, progress=progress)
            figures = {"pairs": each, "loss": done.steps[-1].loss, "accuracy": done.steps[-1].accuracy}
            found = run.registry.put(line, done.adapter.save, figures=figures)
        versions.append(found)
    return versions
