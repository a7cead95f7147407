"""Notes and patients: take them in, de-identify them, take them out again."""

import os
import random
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from client.commands.options import Json, SiteFolder, Yes, commands, confirm
from client.hospital.acts import GateHeld, NotesDeidentified, NotesIngested, NotesReviewed, PatientWithdrawn, RawNotesPurged
from client.hospital.site import Site
from common.console import plain, print_json, say
from common.errors import ConfigError
from common.journal import JSON
from common.terminal import progress_on

if TYPE_CHECKING:
    from client.deid.assurance.token import GateToken
    from client.deid.pipeline import DeidReport

app = commands()


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    FHIR = "fhir"


class DateChoice(StrEnum):
    YEAR_ONLY = "year_only"
    SHIFT = "shift"


Workers = Annotated[int, typer.Option("--workers", min=1, max=256, help="Processes that read notes at once.")]
DatesOption = Annotated[
    DateChoice,
    typer.Option("--dates", help="`year_only` keeps the year; `shift` moves all dates of a patient alike, which is not Safe Harbor."),
]
_CPUS = max(1, min(8, os.cpu_count() or 1))


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder of an export, or its file of notes.")],
    kind: Annotated[Format, typer.Option("--format", help="`fhir`: NDJSON of FHIR R4; `csv`, `jsonl`: notes and patients.")],
    folder: SiteFolder = Path(),
    as_json: Json = False,
) -> None:
    """Take an export into the vault: all of it, or nothing with the file, line and field that is wrong."""
    from client.intake import read_csv, read_fhir, read_jsonl, take_in

    reader = {Format.FHIR: read_fhir, Format.CSV: read_csv, Format.JSONL: read_jsonl}[kind]
    with Site.open(folder) as site, progress_on() as progress:
        site.require_audit()
        export = reader(path)
        done = take_in(site.vault, export, progress)
        site.record(NotesIngested(**asdict(done)))
    if as_json:
        print_json({**asdict(done), "left_aside": dict(export.left_aside)})
        return
    say(
        f"{done.notes} new notes, {done.revised} revised, {done.unchanged} known already, {done.records} patients' records"
        + (f"; {done.withdrawn} notes of withdrawn patients were not taken" if done.withdrawn else "")
    )
    for what, number in sorted(export.left_aside.items()):
        say(f"left aside: {what} ({number})")


@app.command()
def deidentify(
    source: Annotated[
        Path | None, typer.Argument(metavar="[IN.jsonl", help="A file of notes; leave it out to work on the site's vault.")
    ] = None,
    target: Annotated[Path | None, typer.Argument(metavar="OUT.jsonl]", help="Where the de-identified notes of IN.jsonl go.")] = None,
    folder: SiteFolder = Path(),
    workers: Workers = _CPUS,
    dates: DatesOption = DateChoice.YEAR_ONLY,
    again: Annotated[bool, typer.Option("--again", help="Do every raw note anew, after better records or for other dates.")] = False,
    as_json: Json = False,
) -> None:
    """De-identify the vault's pending notes and hold the gate; or, with IN and OUT, one file without a site."""
    from client.deid.assurance.attestation import write_attestation
    from client.deid.gate import hold_gate
    from client.deid.pipeline import deidentify_pending, discard_clean
    from client.deid.standalone import deidentify_file
    from client.deid.surrogates import Dates

    if source is not None:
        if target is None:
            raise typer.BadParameter("name the output as well: deidentify IN.jsonl OUT.jsonl", param_hint="OUT.jsonl")
        with progress_on() as progress:
            done = deidentify_file(source, target, workers=workers, dates=Dates(dates.value), progress=progress)
        if as_json:
            print_json({"notes": done.notes, "quarantined": done.quarantined, "identifiers": done.identifiers, "out": str(target)})
        else:
            say(
                f"{done.notes} notes, {sum(done.identifiers.values())} identifiers replaced, {done.quarantined} notes held back; see {target}"
            )
        return
    with Site.open(folder) as site:
        site.require_audit()
        if again:
            discard_clean(site.vault)
        with progress_on() as progress:
            report = deidentify_pending(site.vault, workers=workers, dates=Dates(dates.value), progress=progress)
        quarantined = sum(report.quarantined.values())
        site.record(NotesDeidentified(report.notes, report.released, quarantined, sum(report.identifiers.values())))
        token = hold_gate(site)
        site.record(GateHeld(token.notes, token.quarantined, token.leaking, token.leak_upper_bound))
        attestation = write_attestation(site, token)
    if as_json:
        print_json(_figures(report, token) | {"attestation": str(attestation)})
        return
    table = Table("class", "replaced")
    for kind, number in report.identifiers.items():
        table.add_row(kind, str(number))
    Console().print(table)
    say(f"{token.notes} notes released, {token.quarantined} held back; at most {token.leak_upper_bound:.2%} hold a known identifier (95 %)")
    say(f"the gate's token is valid until {token.expires}; {attestation} says what was looked at and what was not")


def _figures(report: "DeidReport", token: "GateToken") -> dict[str, JSON]:
    return {
        "notes": report.notes,
        "released": token.notes,
        "quarantined": token.quarantined,
        "reasons": dict(report.quarantined),
        "identifiers": dict(report.identifiers),
        "leak_upper_bound": token.leak_upper_bound,
        "expires": token.expires,
    }


@app.command()
def review(
    folder: SiteFolder = Path(),
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Notes to be read in all; 59 clean ones bound the leaks by 5 %, 299 by 1 %.")
    ] = 60,
    combinations: Annotated[
        bool, typer.Option("--combinations", help="Show instead which rare facts stand together in the data set: quasi-identifiers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read a random sample of the released notes, one key a note; what is marked is held back, and the bound goes into the gate's token."""
    from client.commands.review_desk import show_note
    from client.deid.assurance.attestation import write_attestation
    from client.deid.assurance.review import Reviewer
    from client.deid.gate import hold_gate

    with Site.open(folder) as site:
        if combinations:
            _show_combinations(site, as_json=as_json)
            return
        reviewer = Reviewer(site.vault, rng=random.SystemRandom())
        if not as_json:
            if not (sys.stdin.isatty() and sys.stdout.isatty()):
                raise ConfigError("a review shows notes on a terminal and nowhere else, and here is none; run it in one, or ask for --json")
            site.require_audit()
            reviewer.draw(sample)
            reviewer.read_all(show_note)
        state = reviewer.status()
        if not as_json:
            site.record(NotesReviewed(state.sample, state.read, state.leaking))
        if state.complete and not as_json:
            token = hold_gate(site)
            site.record(GateHeld(token.notes, token.quarantined, token.leaking, token.leak_upper_bound))
            write_attestation(site, token)
    if as_json:
        print_json({"sample": state.sample, "read": state.read, "leaking": state.leaking, "upper_bound": state.upper_bound})
    elif state.complete:
        say(f"{state.read} notes read, {state.leaking} held back; at most {state.upper_bound:.2%} of the notes hold an identifier (95 %)")
    else:
        say(f"{state.read} of {state.sample} notes read; run `wardround-site review` again to go on")


def _show_combinations(site: Site, *, as_json: bool) -> None:
    from client.deid.assurance.quasi import report

    found = report(site.vault.notes(), site.vault.records())
    if as_json:
        print_json(asdict(found))
        return
    table = Table("patients", "facts that stand together")
    for combination in found.combinations[:40]:
        table.add_row(str(combination.patients), plain(" · ".join(combination.facts)))
    Console().print(table)
    say(
        f"{found.standing_out} of {found.patients} patients stand out by a rare diagnosis or combination; {len(found.combinations)} combinations in all"
    )


@app.command()
def withdraw(
    patient: Annotated[str, typer.Argument(metavar="PATIENT", help="The patient's id as in the export.")],
    folder: SiteFolder = Path(),
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete everything stored of a patient and never take it in again. What a model learned before is not forgotten by this."""
    from client.deid.gate import withdraw as withdraw_patient

    patient = patient.strip()  # as intake reads it
    if not patient:
        raise typer.BadParameter("a patient's id is not empty", param_hint="PATIENT")
    confirm("delete everything of this patient", yes=yes, as_json=as_json)
    with Site.open(folder) as site:
        site.require_audit()
        known = site.vault.unit_of(patient) is not None
        gone = withdraw_patient(site, patient)
        site.record(PatientWithdrawn(rows=sum(gone.values())))
    if as_json:
        print_json({"known": known, "deleted": dict(gone)})
    elif known:
        say(f"{sum(gone.values())} rows are deleted; later exports of this patient will not be taken in")
    else:
        say("nobody of this id was here, so nothing is deleted: check its spelling. A later export that brings it will not be taken in")


@app.command()
def purge(folder: SiteFolder = Path(), yes: Yes = False, as_json: Json = False) -> None:
    """Delete the raw notes and the patients' records; the de-identified notes stay."""
    confirm("delete all raw notes and patients' records", yes=yes, as_json=as_json)
    with Site.open(folder) as site:
        site.require_audit()
        waiting = site.vault.pending_count()
        if waiting:
            raise ConfigError(
                f"{waiting} raw notes are not de-identified yet; run `wardround-site deidentify` first, or they would be lost"
            )
        gone = site.vault.purge_raw()
        site.record(RawNotesPurged(notes=gone))
    if as_json:
        print_json({"deleted": gone})
    else:
        say(f"{gone} raw notes are deleted")
