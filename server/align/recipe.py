"""What public pairs teach before and beside the hospitals': the reward members' start, the judges of the watch, the member of AI feedback.

Protects against: a reward that is launched without its public start, or a judge that saw the reward's pairs.
Does not protect against: public pairs that are not public; the desk hands them in.
"""

from collections.abc import Sequence

from common.config import Stage
from common.errors import ConfigError
from common.models import SharedBase
from common.progress import Progress
from common.secure.context import line_name
from server.align.constitution import train_ai_member
from server.align.judges import train_judges
from server.align.pretraining import Pair, pretrain
from server.align.samples import against_samples
from server.federate.stages import PUBLIC_REWARD, stage_spec
from server.registry import Version
from server.run_folder import RunFolder


def from_public_pairs(
    run: RunFolder, base: SharedBase, pairs: Sequence[Pair], judge_pairs: Sequence[Pair], progress: Progress
) -> list[Version]:
    """Train and register what the study wants from `pairs` and `judge_pairs`; what is registered stands.

    The AI member needs the SFT line, and is left to a later call where there is none yet. Raises ConfigError for a judge's pair that the
    same call hands to the reward, and for a public start that comes after the members it should start.
    """
    study, found = run.study, []
    shared = len(set(pairs) & set(judge_pairs))
    if shared:
        raise ConfigError(f"{shared} pairs of the judges are among those of the reward; a judge must not share them")
    if pairs:
        found.append(_start(run, base, pairs, progress))
        if study.reward.constitution and run.registry.find(Stage.SFT.value) is not None:
            found.append(train_ai_member(run, base, pairs, progress=progress))
    if judge_pairs:
        found += train_judges(run, base, judge_pairs, progress=progress)
    return found


def _start(run: RunFolder, base: SharedBase, pairs: Sequence[Pair], progress: Progress) -> Version:
    study, registry = run.study, run.registry
    found = registry.find(PUBLIC_REWARD)
    if found is not None:
        return found
    for line in (line_name(Stage.REWARD, k) for k in range(study.reward.members)):
        if registry.find(line) is not None or run.checkpoint(line).exists():
            raise ConfigError(f"`{line}` began without a public start; pretrain before the reward members are launched")
    spec = stage_spec(study, Stage.REWARD, base)
    pairs = against_samples(run, base, pairs, "pretraining", progress)
    done = pretrain(base, spec, pairs, study.reward, study.model, seed=study.seed, state=run.pretraining_state, progress=progress)
    figures = {"pairs": len(pairs), "loss": done.steps[-1].loss, "accuracy": done.steps[-1].accuracy}
    version = registry.put(PUBLIC_REWARD, done.adapter.save, parents=[], figures=figures)
    run.pretraining_state.unlink(missing_ok=True)
    return version
