"""A large export through a hospital's desk: taken in, de-identified by several processes that are killed on the way, and counted.

    WARDROUND_MEGABYTES=1000 wardround bench export

The commands are those of a hospital, each in a process of its own. Patients have 1 to 150 notes each, of synthetic hospitals' notes joined to long
ones. The de-identification is stopped by SIGKILL when a quarter and when half of the notes are done, and started again. Memory is read from /proc while it
runs: the peak of resident memory of the main process, and of its largest worker with what workers share counted in each.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.journal import JSON
from common.progress import Progress
from simulations.bench.figures import Outcome, Ratio

MEGABYTES = "WARDROUND_MEGABYTES"
_DEFAULT_MEGABYTES, _WORKERS, _MOST_NOTES, _JOINED = 4.0, 2, 150, 12
_PATIENTS = 120
"""Of the synthetic hospital whose people and notes the export repeats, under other names of patients and notes."""

_KILLED_AT = (0.25, 0.5)
GROWTH = 1.25
"""What the largest worker may hold after half of the notes, over what it held before: bounded, whatever the size of the export."""

_POLL_SECONDS, _CALM_SECONDS = 0.25, 1.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """One process from its start to its end or its kill. Memory in bytes; CPU seconds of it and its workers, for one that ended by itself."""

    main_bytes: int
    worker_bytes: int
    notes: int
    cpu_seconds: float
    killed: bool


class Export:
    """`wardround bench export`."""

    name = "export"
    about = "an export of many notes at a hospital's desk: memory, kills, notes lost and done twice"

    def __init__(self, megabytes: float | None = None, workers: int = _WORKERS) -> None:
        self._megabytes, self._workers = megabytes, workers

    def run(self, repetitions: int, progress: Progress) -> Outcome:
        del repetitions  # the figures are counts and peaks
        megabytes = self._megabytes if self._megabytes is not None else _wanted()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ids, characters = write_export(folder / "export", round(megabytes * 1e6))
            site = folder / "site"
            _command("init", str(site), "--declare", f"patient={len({note_id.partition('-')[0] for note_id in ids})}")
            progress.start("take the export in", 1)
            intake = _watched(["ingest", str(folder / "export"), "--format", "jsonl", "--site", str(site)], site, None)
            progress.advance()
            progress.start("de-identify, with two kills", len(ids))
            stretches = []
            for stop in (*(int(share * len(ids)) for share in _KILLED_AT), None):
                stretches.append(_watched(["deidentify", "--site", str(site), "--workers", str(self._workers)], site, stop))
                progress.advance(stretches[-1].notes)
            stored = _stored(site)
        counted = Counter(stored)
        lost, twice = len(set(ids) - set(stored)), sum(number - 1 for number in counted.values())
        last = stretches[-1]
        if not all(each.notes for each in stretches):
            raise ConfigError(f"{megabytes:g} MB were done before they could be stopped twice; set {MEGABYTES} higher")
        rows: list[Mapping[str, JSON]] = [
            {
                "what": "intake", "megabytes": characters / 1e6, "notes": len(ids), "main_bytes": intake.main_bytes,
                "cpu_seconds": intake.cpu_seconds,
            }
        ]  # fmt: skip
        for number, each in enumerate(stretches, 1):
            rows.append(
                {
                    "what": f"de-identification, part {number}", "notes": each.notes, "main_bytes": each.main_bytes,
                    "largest_worker_bytes": each.worker_bytes, "killed": each.killed,
                }
            )  # fmt: skip
        rows.append({"what": "after the last kill", "kchars_per_cpu_second": characters * last.notes / len(ids) / 1e3 / last.cpu_seconds})
        before = max(each.worker_bytes for each in stretches[:-1])
        grown = last.worker_bytes / before
        return Outcome(
            self.name,
            tuple(rows),
            {
                "notes_lost": Ratio(lost, lost, lost, 0.0),
                "notes_done_twice": Ratio(twice, twice, twice, 0.0),
                "largest_worker_after_half": Ratio(grown, grown, grown, GROWTH),
            },
        )


def _wanted() -> float:
    try:
        megabytes = float(os.environ.get(MEGABYTES, _DEFAULT_MEGABYTES))
    except ValueError:
        megabytes = 0.0
    if not 0.1 <= megabytes <= 100_000:
        raise ConfigError(
            f"{MEGABYTES} is no number of megabytes between 0.1 and 100000; set it to one, or leave it out for {_DEFAULT_MEGABYTES:g}"
        )
    return megabytes


def write_export(folder: Path, characters: int) -> tuple[list[str], int]:
    """Write notes.jsonl and patients.jsonl of at least `characters` characters of notes; their ids, and how many characters they have."""
    from simulations.patients.notes import HospitalSpec, write_hospital

    rng, ids, total = random.Random(7), list[str](), 0
    write_hospital(folder, HospitalSpec("export", 2, _PATIENTS, 0), seed=77)
    (folder / "gold.jsonl").unlink()
    (folder / "canaries.json").unlink()
    people, notes = (list(_rows(folder / name)) for name in ("patients.jsonl", "notes.jsonl"))
    of_patient: dict[str, list[dict[str, Any]]] = {}
    for row in notes:
        of_patient.setdefault(row["patient_id"], []).append(row)
    with (folder / "patients.jsonl").open("w", encoding="utf-8") as patients, (folder / "notes.jsonl").open("w", encoding="utf-8") as out:
        number = 0
        while total < characters:
            person = people[number % len(people)]
            theirs, patient_id = of_patient[person["patient_id"]], f"p{number}"
            patients.write(json.dumps(person | {"patient_id": patient_id}) + "\n")
            for visit in range(min(_MOST_NOTES, int(rng.paretovariate(1.1)))):
                text = "\n\n".join(rng.choice(theirs)["text"] for _ in range(rng.randint(1, _JOINED)))
                ids.append(f"{patient_id}-n{visit}")
                out.write(json.dumps({"id": ids[-1], "patient_id": patient_id, "text": text}) + "\n")
                total += len(text)
            number += 1
    return ids, total


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _arguments(arguments: list[str]) -> list[str]:
    return [sys.executable, "-c", "from client.cli import main; main()", *arguments, "--json"]


def _command(*arguments: str) -> None:
    done = subprocess.run(_arguments(list(arguments)), capture_output=True, check=False)
    if done.returncode != 0:
        raise ConfigError(f"`wardround-site {arguments[0]}` ended with exit code {done.returncode}; run it by hand to see why")


def _watched(arguments: list[str], site: Path, kill_at: int | None) -> Stretch:
    """Run a command; stop it by SIGKILL once the vault holds `kill_at` finished notes."""
    before = _done(site)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(_arguments(arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    main = worker = 0
    killed = False
    looked = time.monotonic()
    while process.poll() is None:
        time.sleep(_POLL_SECONDS)
        main = max(main, _resident(process.pid))
        worker = max([worker, *map(_resident, _children(process.pid))])
        if kill_at is not None and not killed and time.monotonic() - looked > _CALM_SECONDS:
            looked = time.monotonic()
            if _done(site) >= kill_at:
                process.send_signal(signal.SIGKILL)
                killed = True
    if process.returncode not in (0, -signal.SIGKILL) or (process.returncode != 0 and not killed):
        raise ConfigError(f"`wardround-site {arguments[0]}` ended with exit code {process.returncode}; run it by hand to see why")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Stretch(main, worker, _done(site) - before, now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime, killed)


def _done(site: Path) -> int:
    from client.hospital.site import Site

    with Site.open(site) as opened:
        counts = opened.vault.counts()
    return counts["notes"] + counts["quarantine"]


def _stored(site: Path) -> list[str]:
    """The ids of all notes that are released or held back, each as often as it is there."""
    from client.hospital.site import Site

    with Site.open(site) as opened:
        return [note.note_id for note in opened.vault.notes()] + [note_id for note_id, _ in opened.vault.quarantined()]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it ended meanwhile
        return []


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
