"""How many sites are masked together. Every site agrees on a key with every other of its group, so a large cohort is dealt into groups.

The coordinator then learns the sum of each group, not only of all: groups are as large as they can be. Sizes follow from the study
alone, so that a site can tell a group that somebody made smaller.

Protects against: a coordinator that puts a site into a sum of fewer sites than the study describes.
Does not protect against: a study that describes small groups; the hospital's policy has a floor of its own (`min_sites`).
"""

from common.config import MINIMUM_SITES, Stage, StudyConfig


def group_count(sites: int, group_size: int) -> int:
    """The fewest groups of at most `group_size`, unless that left fewer than three sites in one."""
    return max(1, min(-(-sites // group_size), sites // MINIMUM_SITES))


def sum_sizes(study: StudyConfig, stage: Stage) -> set[int]:
    """How many sites a sum of this stage can have: sites are dealt so that sizes differ by at most one."""
    hospitals, members = study.simulation.hospitals, study.reward.members
    cohorts = {hospitals} if stage is Stage.SFT else {hospitals // members, -(-hospitals // members)}
    sizes: set[int] = set()
    for sites in cohorts:
        # A plain sum hides nothing, so nobody is dealt into groups for it.
        groups = group_count(sites, study.secure.group_size) if study.secure.exchange == "masked" else 1
        sizes |= {sites // groups, -(-sites // groups)}
    return sizes
