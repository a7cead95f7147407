"""Dropouts that a simulated study plans for: drawn from the public seed, so that a resumed run meets the same ones."""

import hashlib
from collections.abc import Sequence

from common.config import Stage, StudyConfig
from common.secure.context import line_name
from server.federate.cohort import deal
from simulations.machine.grid import Fault, When


def planned_faults(study: StudyConfig, sites: Sequence[str]) -> list[Fault]:
    """With `simulation.dropouts = "one-per-cohort"`: one site of each reward cohort misses one round, trained or not; else none."""
    if study.simulation.dropouts == "none":
        return []
    faults = []
    for member, cohort in enumerate(deal(sites, study.reward.members, study.seed)):
        draw = hashlib.sha256(f"wardround dropout {study.seed} {member}".encode()).digest()
        site = cohort[int.from_bytes(draw[:4], "big") % len(cohort)]
        number = int.from_bytes(draw[4:8], "big") % study.reward.rounds
        faults.append(Fault(site, line_name(Stage.REWARD, member), number, list(When)[draw[8] % 2]))
    return faults
