"""What this hospital permits. The coordinator proposes a study; this can only make it stricter, never looser.

Protects against: a study that asks for more ε, fewer sites, another unit, another way for its updates or another model than the hospital
agreed to. Each unit has a budget of its own, so a second unit is a second budget over the same patients: one alone is permitted by default.
Does not protect against: a hospital that writes a policy as loose as the bounds of `StudyConfig` allow.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from common.config import MINIMUM_SITES, SHIPPED_BASES, Engine, Stage, StudyConfig
from common.errors import PolicyRefused
from common.privacy.mechanism import Placement, Unit
from common.settings import Frozen, read_toml, validated


@dataclass(frozen=True, slots=True)
class Request:
    """The figures of one stage of a study, as the hospital's policy looks at them. `sites` take part in the stage's cohort."""

    study_id: str
    stage: Stage
    unit: Unit
    epsilon: float
    delta: float
    sites: int
    base: str
    engine: Engine
    placement: Placement
    exchange: str
    rounds: int
    local_steps: int

    @classmethod
    def of(cls, study: StudyConfig, stage: Stage, *, sites: int) -> "Request":
        privacy, training = study.privacy, study.stage(stage)
        return cls(
            study_id=study.study_id,
            stage=stage,
            unit=study.unit(stage),
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            sites=sites,
            base=study.model.base,
            engine=privacy.engine,
            placement=privacy.placement,
            exchange=study.secure.exchange,
            rounds=training.rounds,
            local_steps=training.local_steps,
        )


class HospitalPolicy(Frozen):
    """A frozen value read from `policy.toml`. Every field is a ceiling, a floor or a list of what is allowed."""

    max_epsilon: float = Field(default=8.0, gt=0, le=10, description="for one unit, over every study and coordinator there will ever be")
    max_delta: float = Field(default=1e-6, gt=0, le=1e-4)
    min_sites: int = Field(default=MINIMUM_SITES, ge=MINIMUM_SITES, description="smallest cohort this hospital sums its update into")
    max_steps: int = Field(default=10_000, ge=1, description="rounds times local steps of one stage")
    allowed_stages: tuple[Stage, ...] = (Stage.SFT, Stage.REWARD)
    allowed_units: tuple[Unit, ...] = Field(
        default=(Unit.PATIENT,), description="each has `max_epsilon` of its own; beside `patient` another one is spent on the same patients"
    )
    allowed_placements: tuple[Placement, ...] = (Placement.SITE,)
    allowed_exchanges: tuple[Literal["masked", "plain"], ...] = Field(
        default=("masked",), description="`plain` shows the coordinator this hospital's own (noised) update instead of sums alone"
    )
    allowed_bases: tuple[str, ...] = Field(
        default=SHIPPED_BASES, description="base models by name; any other would be fetched, or read from a path, at the coordinator's word"
    )
    allowed_studies: tuple[str, ...] | None = Field(default=None, description="study ids; leave out to allow any")
    max_leak_upper_bound: float = Field(default=0.05, gt=0, le=1, description="of the gate: 95 % upper bound on the share of leaking notes")
    max_review_upper_bound: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="of people's review of a random sample, likewise; below 1 a review is demanded (0.05: 59 clean notes)",
    )
    max_quarantined: float = Field(
        default=0.25, ge=0, le=1, description="of the gate: share of notes held back, above which something is wrong"
    )
    gate_days: int = Field(default=90, ge=1, le=366, description="how long the gate's token is valid")
    allow_not_private: bool = Field(default=False, description='lets a study with `engine = "none"` train on this hospital\'s patients')

    def admit(self, request: Request) -> None:
        """Return when the request is within the policy. Raises PolicyRefused with the number, the bound and the remedy otherwise."""
        for refusal in self._refusals(request):
            raise PolicyRefused(f"study {request.study_id}, stage {request.stage}: {refusal}")

    def _refusals(self, request: Request) -> list[str]:
        steps = request.rounds * request.local_steps
        found = []
        if request.engine is Engine.NONE and not self.allow_not_private:
            found.append('the study trains without privacy (`engine = "none"`); this hospital permits only private training')
        if request.engine is not Engine.NONE and request.epsilon > self.max_epsilon:
            found.append(f"epsilon {request.epsilon:g} is above this hospital's {self.max_epsilon:g}; lower `privacy.epsilon`")
        if request.engine is not Engine.NONE and request.delta > self.max_delta:
            found.append(f"delta {request.delta:g} is above this hospital's {self.max_delta:g}; lower `privacy.delta`")
        if request.sites < self.min_sites:
            found.append(f"{request.sites} sites take part, below this hospital's {self.min_sites}; use larger cohorts")
        if steps > self.max_steps:
            found.append(f"{steps} steps are above this hospital's {self.max_steps}; lower `rounds` or `local_steps`")
        if request.stage not in self.allowed_stages:
            found.append(f"this stage is not among {_listed(self.allowed_stages)}")
        if request.unit not in self.allowed_units:
            found.append(f"the unit of protection is {request.unit}, not one of {_listed(self.allowed_units)}; change `privacy.unit`")
        if request.placement not in self.allowed_placements:
            found.append(f"noise placement {request.placement} is not one of {_listed(self.allowed_placements)}")
        if request.exchange not in self.allowed_exchanges:
            found.append(
                f"the updates would travel by the exchange {request.exchange}, not by {_listed(self.allowed_exchanges)}; change `secure.exchange`"
            )
        if request.base not in self.allowed_bases:
            found.append(
                f"base model {request.base} is not one of {_listed(self.allowed_bases)}; the hospital may add it to `allowed_bases`"
            )
        if self.allowed_studies is not None and request.study_id not in self.allowed_studies:
            found.append(f"this study is not one of {_listed(self.allowed_studies)}")
        return found


def load_policy(path: Path) -> HospitalPolicy:
    """Read a policy from TOML. Raises ConfigError naming file and key; an unknown key is refused, since a misspelt bound protects nobody."""
    return validated(str(path), read_toml(path, "`configs/hospital.example.toml` is an example"), HospitalPolicy)


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "nothing: the list is empty"
