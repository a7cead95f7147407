"""What the private steps of a study cost each hospital, put together for the report, from whoever knows the steps.

In a simulation the hospitals' own ledgers know them. Outside of one a ledger stays at its hospital, and the steps are those that the
study asked for (`deployed.py`).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.config import StudyConfig
from common.privacy.accounting import CERTIFICATE_DISCRETIZATION, epsilon, federation_epsilon
from common.privacy.crosscheck import epsilon_prv, epsilon_rdp
from common.privacy.mechanism import Mechanism, Unit
from server.evaluate.summary import PrivacyFigures, StageMechanism

KNOWN_TO = (2, 3)
"""A patient known to so many sites: for these the composed ε is published beside the one of a single site."""


@dataclass(frozen=True, slots=True)
class PrivateStep:
    """One step of a line (`sft`, `reward-0`, …) at a site. `simulated`: its noise came from a known seed."""

    line: str
    mechanism: Mechanism
    simulated: bool


Accounts = Mapping[str, Sequence[PrivateStep]]
"""Site → every step that it took, whatever became of it."""


def epsilon_by_site(study: StudyConfig, accounts: Accounts, unit: Unit | None = None) -> dict[str, float]:
    """ε of one unit (the study's main one if not said) at each site."""
    unit = unit or study.privacy.unit
    return {
        site: epsilon(_of_unit(unit, steps), study.privacy.delta, discretization=CERTIFICATE_DISCRETIZATION)
        for site, steps in sorted(accounts.items())
    }


def privacy_figures(study: StudyConfig, accounts: Accounts) -> PrivacyFigures:
    """The statement's figures: mechanisms, ε by stage, other accountants, patients of several sites."""
    main = study.privacy.unit
    spent = {site: _of_unit(main, steps) for site, steps in accounts.items()}
    others = sorted({step.mechanism.unit for steps in accounts.values() for step in steps} - {main})
    total = epsilon_by_site(study, accounts)
    worst = max(total, key=lambda site: total[site], default=None)
    delta = study.privacy.delta
    return PrivacyFigures(
        engine=study.privacy.engine.value,
        budget=study.privacy.epsilon,
        mechanisms=_mechanisms(accounts),
        by_stage=_by_stage(study, accounts),
        other_units={unit.value: epsilon_by_site(study, accounts, unit) for unit in others},
        cross_checks={"prv": epsilon_prv(spent[worst], delta), "rdp": epsilon_rdp(spent[worst], delta)} if worst and spent[worst] else {},
        several_sites=_several_sites(main, spent, delta),
        exchange=study.secure.exchange,
        aggregation=study.secure.aggregation.value,
        randomness="seeded" if any(step.simulated for steps in accounts.values() for step in steps) else "system",
    )


def _several_sites(unit: Unit, spent: Mapping[str, Sequence[Mechanism]], delta: float) -> dict[str, float]:
    """Number of sites → ε of a unit that so many of them know. A site is known to itself alone."""
    if unit is Unit.SITE:
        return {}
    return {str(k): federation_epsilon(spent, delta, shared_by=k) for k in KNOWN_TO if k <= len(spent)}


def _of_unit(unit: Unit, steps: Sequence[PrivateStep]) -> list[Mechanism]:
    return _merged([step.mechanism for step in steps if step.mechanism.unit is unit])


def _merged(mechanisms: Sequence[Mechanism]) -> list[Mechanism]:
    return [mechanism.times(count) for mechanism, count in Counter(mechanisms).items()]


def _by_stage(study: StudyConfig, accounts: Accounts) -> dict[str, dict[str, float]]:
    """Stage (`sft`, `reward`) → site → ε of that stage alone, in that stage's own unit."""
    stages: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for site, steps in sorted(accounts.items()):
        by_stage: defaultdict[str, list[Mechanism]] = defaultdict(list)
        for step in steps:
            by_stage[step.line.partition("-")[0]].append(step.mechanism)
        for stage, mechanisms in by_stage.items():
            stages[stage][site] = epsilon(_merged(mechanisms), study.privacy.delta, discretization=CERTIFICATE_DISCRETIZATION)
    return dict(stages)


def _mechanisms(accounts: Accounts) -> tuple[StageMechanism, ...]:
    """Sites that ran the same step equally often in a line share a row."""
    rows: defaultdict[tuple[str, Mechanism, int], list[str]] = defaultdict(list)
    for site, steps in sorted(accounts.items()):
        for (line, mechanism), times in Counter((step.line, step.mechanism) for step in steps).items():
            rows[line, mechanism, times].append(site)
    return tuple(
        StageMechanism(
            stage=line,
            sites=tuple(sites),
            unit=m.unit.value,
            sampling_rate=m.sampling_rate,
            clip_norm=m.clip_norm,
            noise_multiplier=m.noise_multiplier,
            steps=times,
            expected_units=m.expected_units,
            placement=m.placement.value,
        )
        for (line, m, times), sites in sorted(rows.items(), key=lambda row: (row[0][0] != "sft", row[0][0], row[1]))
    )
