"""Who takes part: the sites of a study, pinned once, and the disjoint cohorts that train the members of the reward ensemble.

Protects against: a site that meets the reward stage twice (each is dealt into one cohort), a declared number of units that
changes in the middle of a study, and a site that answers under another's name.
Does not protect against: a site that declares a false number before the study; it only changes that site's weight.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.config import MINIMUM_SITES, Stage, StudyConfig
from common.errors import ConfigError, ProtocolError
from common.privacy.mechanism import Unit
from common.protocol import Hello


@dataclass(frozen=True, slots=True)
class Cohort:
    """The sites of one stage or one reward member, in alphabetical order, each with its public L_s = q·N_s."""

    expected_units: Mapping[str, float]

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(sorted(self.expected_units))


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The sites of a study and N_s of each, by unit: taken down at the first hello, never changed afterwards."""

    declared: Mapping[str, Mapping[Unit, int]]

    @classmethod
    def of(cls, hellos: Sequence[Hello], study: StudyConfig) -> "Enrolment":
        """Raises ProtocolError for two sites of one name, ConfigError when fewer or more sites are there than the study describes."""
        names = [hello.site for hello in hellos]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ProtocolError(f"two nodes call themselves `{twice[0]}`; one of them is a copy, stop it before the study starts")
        if len(names) != study.simulation.hospitals:
            raise ConfigError(
                f"{len(names)} sites said hello and the study describes {study.simulation.hospitals}; "
                "wait until all of them are connected, or correct `simulation.hospitals`"
            )
        return cls({hello.site: dict(hello.declared_units) for hello in hellos})

    def check(self, hello: Hello) -> None:
        """Raises ProtocolError when a site is unknown or declares other figures than it was enrolled with."""
        if hello.site not in self.declared:
            raise ProtocolError(f"site `{hello.site}` was not there when the study began; it can take part in the next one")
        if dict(hello.declared_units) != dict(self.declared[hello.site]):
            raise ProtocolError(f"site `{hello.site}` declares other numbers of units than when the study began; they stay as they were")

    def cohort(self, study: StudyConfig, stage: Stage, member: int | None) -> Cohort:
        """All sites for SFT; for a reward member, the sites dealt to it. Raises ConfigError when a figure or a member is missing."""
        sites = tuple(sorted(self.declared))
        if stage is Stage.REWARD:
            hands = deal(sites, study.reward.members, study.seed)
            if member is None or not 0 <= member < len(hands):
                raise ConfigError(f"reward member {member} does not exist; the study trains members 0 to {study.reward.members - 1}")
            sites = hands[member]
        unit, rate = study.unit(stage), study.privacy.sampling_rate
        missing = [site for site in sites if unit not in self.declared[site]]
        if missing:
            raise ConfigError(f"site `{missing[0]}` has not declared its number of {unit}s, the unit of stage {stage}")
        return Cohort({site: rate * self.declared[site][unit] for site in sites})


def deal(sites: Sequence[str], members: int, seed: int) -> tuple[tuple[str, ...], ...]:
    """`sites` in `members` disjoint cohorts whose sizes differ by at most one, drawn from the public `seed`.

    Sites are ordered by SHA-256 of seed and name and dealt in turn, so the same names give the same cohorts on every machine.
    Raises ConfigError when a cohort would have fewer than three sites.
    """
    if members < 1 or len(sites) // members < MINIMUM_SITES:
        raise ConfigError(
            f"{len(sites)} sites cannot be dealt to {members} members: each cohort needs at least {MINIMUM_SITES}; "
            f"lower `reward.members` to {max(1, len(sites) // MINIMUM_SITES)} or invite more sites"
        )
    order = sorted(sites, key=lambda site: (hashlib.sha256(f"wardround cohort {seed} {site}".encode()).digest(), site))
    return tuple(tuple(sorted(order[member::members])) for member in range(members))
