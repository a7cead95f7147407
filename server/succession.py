"""A study that goes on from an earlier one: the SFT adapter and the public start are taken over, and new reward members are trained.

So the new policy's answers can go back to the sites for labelling (`wardround-site pairs ask --policy`): the hospitals keep all their pairs,
old and new, and a second study trains the reward on them. What the first one asked of the sites stays in the second one's account.

Protects against: an account that starts from nothing, versions that were changed since they were signed, and adapters of another base.
Does not protect against: ε of other studies, which the sites' own ledgers add up.
"""

from pathlib import Path

from common.adapters import Adapter
from common.config import Stage, StudyConfig
from common.errors import ConfigError
from common.journal import JSON
from server.evaluate.asked import TAKEN_OVER, asked_of_sites, keep_earlier
from server.federate.stages import PUBLIC_REWARD
from server.registry import Version
from server.run_folder import RunFolder


def take_over(run: RunFolder, earlier: RunFolder) -> list[Version]:
    """Register the SFT line and the public start of `earlier` in `run`, signed by it anew; what it took over before stands.

    Raises ConfigError when the studies do not fit together, JournalBroken when the earlier registry does not hold.
    """
    _require_fit(run.study, earlier.study)
    earlier.registry.verify()
    if run.study.private:
        keep_earlier(run, asked_of_sites(earlier))
    found = []
    for line in (Stage.SFT.value, PUBLIC_REWARD):
        version = earlier.registry.find(line)
        if version is not None:
            found.append(run.registry.find(line) or _copied(run, version, earlier.study.study_id))
    return found


def _copied(run: RunFolder, version: Version, study_id: str) -> Version:
    def write(folder: Path) -> None:
        Adapter.load(version.folder).save(folder)

    figures: dict[str, JSON] = {**version.figures, TAKEN_OVER: f"{study_id}: {version.name}, {version.digest}"}
    return run.registry.put(version.line, write, figures=figures)


def _require_fit(study: StudyConfig, earlier: StudyConfig) -> None:
    if study.study_id == earlier.study_id:
        raise ConfigError(
            f"both studies are called `{study.study_id}`, and a site takes a study under one digest; choose another `study_id`"
        )
    for name, ours, theirs in (
        ("model", study.model, earlier.model),
        ("sft.adapter", study.sft.adapter, earlier.sft.adapter),
        ("reward.adapter", study.reward.adapter, earlier.reward.adapter),
        ("privacy.engine", study.privacy.engine, earlier.privacy.engine),
    ):
        if ours != theirs:
            raise ConfigError(f"`{name}` is not that of study `{earlier.study_id}`, whose models are taken over; make it the same")
