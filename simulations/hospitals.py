"""The hospitals of a simulated federation: their folders, their notes through intake and de-identification, their labelled pairs.

Each is a real site (`client/hospital/site.py`) with a vault, a ledger, an audit log and a policy of its own. Only patients' secrets
come from the seed, so that a run can be repeated: such a vault says `simulated` for ever, and nothing from it may be released.
Every function here may be called again after a kill: what is done stays done.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.deid.gate import cover_preferences, hold_gate
from client.deid.pipeline import DeidReport, deidentify_notes
from client.hospital.identity import IDENTITY_KEY, KEYS, load_key, make_keys, pin_roster, pinned_roster
from client.hospital.policy import HospitalPolicy
from client.hospital.site import SITE_FILE, Site
from client.intake.jsonl import read_jsonl
from common.config import Stage, StudyConfig
from common.errors import ConfigError
from common.privacy import schedule
from common.privacy.mechanism import Unit
from common.progress import Progress, Silent
from common.secure.roster import Roster
from server.run_folder import RunFolder
from simulations.machine.workers import Workers
from simulations.seeding import stream
from simulations.sources.datasets import PublicSource
from simulations.sources.source import Candidates, Source
from simulations.sources.synthetic import SyntheticSource

SITES, EXPORT = "sites", "export"
QUARANTINE_ALLOWED = 0.35
CONSORTIUM, ROSTER_DAYS = "simulated", 3650


def source_of(config: StudyConfig, data: Path | None = None) -> Source:
    """The source that the study names. Raises ConfigError when it wants public data and no folder is given, or the other way round."""
    public = config.simulation.source == "public"
    if public and data is None:
        raise ConfigError('`simulation.source` is "public"; name the folder of the public data sets with `--data DIR`')
    if data is not None and not public:
        raise ConfigError('`--data` is given, but `simulation.source` is "synthetic"; set it to "public" or leave `--data` out')
    return SyntheticSource(config) if data is None else PublicSource(config, data)


def make_hospitals(config: StudyConfig, source: Source, workdir: Path) -> list[Site]:
    """A site in WORKDIR/sites/NAME for each hospital of the source, opened where it is there already.

    Each permits what the study asks for, and declares its number of units. Raises ConfigError when SFT and reward stage
    share a unit but not its declared number.
    """
    sites = []
    for name in source.sites():
        folder = workdir / SITES / name
        if (folder / SITE_FILE).exists():
            sites.append(Site.open(folder))
            continue
        declared, seed = declared_units(config), stream("vault", name, config.seed)
        sites.append(Site.create(folder, name, _policy(config), declared_units=declared, simulated_seed=seed))
    return sites


def introduce(folders: Sequence[Path], run: RunFolder, *, now: datetime) -> Roster:
    """One roster of all hospitals, signed by the run's coordinator and pinned at each: what people do out of band in a real consortium.

    A resumed run keeps the roster it has.
    """
    for folder in folders:
        if not (folder / KEYS / IDENTITY_KEY).exists():
            shutil.rmtree(folder / KEYS, ignore_errors=True)  # half made when a kill came; nobody has seen these keys
            make_keys(folder)
    roster = run.roster()
    if roster is None:
        keys = {folder.name: load_key(folder).public for folder in folders}
        roster = Roster.found(CONSORTIUM, run.registry.identity.public, keys, issued=now, days=ROSTER_DAYS)
    data = roster.sign(run.registry.identity)
    run.put_roster(data)
    for folder in folders:
        if pinned_roster(folder) != roster:
            pin_roster(folder, folder.name, data, now=now)
    return roster


def declared_units(config: StudyConfig) -> dict[Unit, int]:
    """N_s for each unit of the study that is declared: a site is one of itself."""
    sft, reward = (schedule.declared_units(config, stage) for stage in Stage)
    unit = config.privacy.unit
    if unit is config.privacy.preference_unit and sft != reward:
        raise ConfigError(
            f"`simulation.declared_units` is {sft} and `simulation.declared_preference_units` {reward}, but both stages protect the {unit}; a site "
            "declares one number of each unit, so set them equal"
        )
    declared = {unit: sft, config.privacy.preference_unit: reward}
    return {unit: number for unit, number in declared.items() if unit is not Unit.SITE}


def _policy(config: StudyConfig) -> HospitalPolicy:
    """A hospital that agrees to this study and to nothing looser."""
    privacy = config.privacy
    return HospitalPolicy(
        max_epsilon=privacy.epsilon,
        max_delta=privacy.delta,
        allowed_units=tuple(dict.fromkeys((privacy.unit, privacy.preference_unit))),
        allowed_placements=(privacy.placement,),
        allowed_exchanges=(config.secure.exchange,),
        allowed_bases=(config.model.base,),
        allowed_studies=(config.study_id,),
        # Without a single leak the upper bound is still about 3 divided by the number of notes: few patients cannot show less.
        max_leak_upper_bound=min(1.0, max(0.05, 4 / config.simulation.patients)),
        max_quarantined=QUARANTINE_ALLOWED,
        allow_not_private=not config.private,
    )


@dataclass(frozen=True, slots=True)
class Admitted:
    """What one hospital took in: figures of the de-identification and of its gate. They stay with the simulation."""

    site: str
    deid: DeidReport
    leak_upper_bound: float


def admit_notes(
    hospitals: Sequence[Site], source: Source, progress: Progress | None = None, workers: Workers | None = None
) -> list[Admitted]:
    """Each hospital's export → intake → de-identification → gate → vault. Raises GateRefused for a hospital that does not pass."""
    told = progress or Silent()
    told.start("de-identify the hospitals' notes", len(hospitals))
    admitted = []
    for done in (workers or Workers(1)).map(_admit, [_Admission(site.folder, number, source) for number, site in enumerate(hospitals)]):
        told.note(f"{done.site}: {done.deid.released} notes released, {sum(done.deid.quarantined.values())} held back")
        told.advance()
        admitted.append(done)
    return admitted


@dataclass(frozen=True, slots=True)
class _Admission:
    folder: Path
    number: int
    source: Source


def _admit(asked: _Admission) -> Admitted:
    site = Site.open(asked.folder)
    folder = site.folder / EXPORT  # raw text: nowhere but with the hospital's own things
    asked.source.write_export(asked.number, folder)
    export = read_jsonl(folder)
    report = deidentify_notes(export.notes, export.records, site.vault)
    token = hold_gate(site, canaries=[planted.value for planted in asked.source.planted() if planted.kind == "canary"])
    return Admitted(site.name, report, token.leak_upper_bound)


def label_pairs(hospitals: Sequence[Site], source: Source, candidates: Candidates, progress: Progress | None = None) -> int:
    """Every hospital's clinicians choose; the choices go into its vault. Returns how many in all. Labelling again replaces each by itself."""
    told = progress or Silent()
    told.start("label pairs", len(hospitals))
    total = 0
    for number, site in enumerate(hospitals):
        patients = sorted(record.patient_id for record in site.vault.records())
        chosen = source.preferences(number, patients, candidates)
        site.vault.put_preferences(chosen)
        kept, _ = cover_preferences(site)
        total += kept
        told.advance()
    return total
