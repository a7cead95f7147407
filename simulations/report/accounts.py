"""What the hospitals' own ledgers say was spent, put together for the report of a simulation.

Outside a simulation a ledger stays at its hospital; there the coordinator reports what its study asked for.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from common.config import StudyConfig
from common.privacy.accounting import CERTIFICATE_DISCRETIZATION, epsilon, federation_epsilon
from common.privacy.crosscheck import epsilon_prv, epsilon_rdp
from common.privacy.ledger import Charge
from common.privacy.mechanism import Mechanism, Unit
from server.evaluate.summary import PrivacyFigures, StageMechanism

KNOWN_TO = (2, 3)
"""A patient known to so many sites: for these the composed ε is published beside the one of a single site."""


def epsilon_by_site(study: StudyConfig, ledgers: Mapping[str, Sequence[Charge]], unit: Unit | None = None) -> dict[str, float]:
    """ε of one unit (the study's main one if not said) at each site: every step its ledger holds, whatever became of it."""
    unit = unit or study.privacy.unit
    return {
        site: epsilon(_of_unit(unit, charges), study.privacy.delta, discretization=CERTIFICATE_DISCRETIZATION)
        for site, charges in sorted(ledgers.items())
    }


def privacy_figures(study: StudyConfig, ledgers: Mapping[str, Sequence[Charge]]) -> PrivacyFigures:
    """The statement's figures: mechanisms, ε by stage, other accountants, patients of several sites."""
    main = study.privacy.unit
    spent = {site: _of_unit(main, charges) for site, charges in ledgers.items()}
    others = sorted({c.mechanism.unit for charges in ledgers.values() for c in charges} - {main})
    total = epsilon_by_site(study, ledgers)
    worst = max(total, key=lambda site: total[site], default=None)
    delta = study.privacy.delta
    return PrivacyFigures(
        engine=study.privacy.engine.value,
        budget=study.privacy.epsilon,
        mechanisms=_mechanisms(ledgers),
        by_stage=_by_stage(study, ledgers),
        other_units={unit.value: epsilon_by_site(study, ledgers, unit) for unit in others},
        cross_checks={"prv": epsilon_prv(spent[worst], delta), "rdp": epsilon_rdp(spent[worst], delta)} if worst and spent[worst] else {},
        several_sites={str(k): federation_epsilon(spent, delta, shared_by=k) for k in KNOWN_TO if k <= len(spent)},
        exchange=study.secure.exchange,
        aggregation=study.secure.aggregation.value,
        randomness="seeded" if any(c.simulated for charges in ledgers.values() for c in charges) else "system",
    )


def _of_unit(unit: Unit, charges: Sequence[Charge]) -> list[Mechanism]:
    return _merged([c.mechanism for c in charges if c.mechanism.unit is unit])


def _merged(mechanisms: Sequence[Mechanism]) -> list[Mechanism]:
    return [mechanism.times(steps) for mechanism, steps in Counter(mechanisms).items()]


def _by_stage(study: StudyConfig, ledgers: Mapping[str, Sequence[Charge]]) -> dict[str, dict[str, float]]:
    """Stage (`sft`, `reward`) → site → ε of that stage alone, in that stage's own unit."""
    stages: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for site, charges in sorted(ledgers.items()):
        by_stage: defaultdict[str, list[Mechanism]] = defaultdict(list)
        for charge in charges:
            by_stage[charge.entry.stage.partition("-")[0]].append(charge.mechanism)
        for stage, mechanisms in by_stage.items():
            stages[stage][site] = epsilon(_merged(mechanisms), study.privacy.delta, discretization=CERTIFICATE_DISCRETIZATION)
    return dict(stages)


def _mechanisms(ledgers: Mapping[str, Sequence[Charge]]) -> tuple[StageMechanism, ...]:
    """Sites that ran the same step equally often in a line share a row."""
    rows: defaultdict[tuple[str, Mechanism, int], list[str]] = defaultdict(list)
    for site, charges in sorted(ledgers.items()):
        for (line, mechanism), steps in Counter((c.entry.stage, c.mechanism) for c in charges).items():
            rows[line, mechanism, steps].append(site)
    return tuple(
        StageMechanism(
            stage=line,
            sites=tuple(sites),
            unit=m.unit.value,
            sampling_rate=m.sampling_rate,
            clip_norm=m.clip_norm,
            noise_multiplier=m.noise_multiplier,
            steps=steps,
            expected_units=m.expected_units,
            placement=m.placement.value,
        )
        for (line, m, steps), sites in sorted(rows.items(), key=lambda row: (row[0][0] != "sft", row[0][0], row[1]))
    )
