"""Every pending note of a vault, de-identified: in batches of whole patients, by several processes, resumable after a kill.

A batch is stored in one transaction and in order, so a run that was killed goes on with the same batches it would have had: the result
does not depend on where it was cut. Memory holds a few batches, whatever the size of the export.

Protects against: half a patient in the vault; a note done twice or left out; text of a note in an error, or in a process that outlives its run.
Does not protect against: a worker that the system kills again and again for lack of memory; the run stops and says so.
"""

import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from threading import Thread

from client.deid.deidentifier import Cleaned, Deidentifier, Work
from client.deid.surrogates import Dates
from client.records import PatientRecord, RawNote
from client.sealed.vault import Vault
from common.errors import WardroundError
from common.progress import Progress, Silent

BATCH_PATIENTS, BATCH_CHARACTERS = 12, 500_000
"""A batch ends with whichever is reached first, so that a kill costs seconds of work whether a patient has one note or a thousand."""

_DATES = "deid dates"


@dataclass(frozen=True, slots=True)
class DeidReport:
    """What stands in the vault after a run: all runs together, so that a resumed run reports what an uninterrupted one does.

    identifiers  how many were replaced in released notes, by class; quarantined: notes held back, by reason
    """

    notes: int
    released: int
    patients: int
    identifiers: Mapping[str, int]
    quarantined: Mapping[str, int]

    @property
    def quarantined_share(self) -> float:
        return sum(self.quarantined.values()) / self.notes if self.notes else 0.0


def deidentify_notes(
    notes: Iterable[RawNote],
    records: Iterable[PatientRecord],
    vault: Vault,
    *,
    workers: int = 1,
    dates: Dates = Dates.YEAR_ONLY,
    progress: Progress | None = None,
) -> DeidReport:
    """Ingest, then de-identify everything that is pending."""
    vault.ingest(notes, records)
    return deidentify_pending(vault, workers=workers, dates=dates, progress=progress)


def deidentify_pending(vault: Vault, *, workers: int = 1, dates: Dates = Dates.YEAR_ONLY, progress: Progress | None = None) -> DeidReport:
    """De-identify every raw note that is neither released nor held back. Doing it again changes nothing.

    With `workers` > 1 that many processes are forked; they get values and give values, and never see the vault.
    """
    told = progress or Silent()
    pending = vault.pending_count()
    if pending:
        if dates is Dates.SHIFT:
            vault.put(_DATES, dates.value.encode())  # before the first note: from here on the data set is not Safe Harbor
        told.start("de-identify notes", pending)
        works = (_work(vault, unit) for unit in vault.pending_units())
        for batch in clean_batches(batched(works), Deidentifier(dates), workers):
            done = [cleaned for patient in batch for cleaned in patient]
            vault.put_notes(
                (cleaned.note for cleaned in done if cleaned.reason is None),
                ((cleaned.note, cleaned.reason.value) for cleaned in done if cleaned.reason is not None),
            )
            told.advance(len(done))
    return report(vault)


def dates_of(vault: Vault) -> Dates:
    """What became of dates: `SHIFT` as soon as one note was done so, until all are done anew."""
    return Dates.YEAR_ONLY if vault.get(_DATES) is None else Dates.SHIFT


def discard_clean(vault: Vault) -> None:
    """Make every note pending again, with no choice made about dates."""
    vault.discard_clean()
    vault.erase(_DATES)


def report(vault: Vault) -> DeidReport:
    """The figures of everything in the vault."""
    identifiers: Counter[str] = Counter()
    released = 0
    for note in vault.notes():
        released += 1
        identifiers.update(note.counts)
    quarantined = Counter(reason for _, reason in vault.quarantined())
    return DeidReport(
        notes=released + sum(quarantined.values()),
        released=released,
        patients=len(vault.note_units()),
        identifiers=dict(sorted(identifiers.items())),
        quarantined=dict(sorted(quarantined.items())),
    )


def batched(works: Iterable[Work]) -> Iterator[list[Work]]:
    """The patients' works in order, in batches of at most `BATCH_PATIENTS`, each ended by the patient who fills `BATCH_CHARACTERS`."""
    batch, characters = list[Work](), 0
    for work in works:
        batch.append(work)
        characters += sum(len(note.text) for note in work.notes)
        if len(batch) == BATCH_PATIENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _work(vault: Vault, unit: int) -> Work:
    record, secret = vault.patient(unit)
    return Work(tuple(vault.raw_notes(pending=True, unit=unit)), record, secret)


def clean_batches(batches: Iterator[list[Work]], deidentifier: Deidentifier, workers: int) -> Iterator[list[list[Cleaned]]]:
    """The batches in order, each cleaned; at most two a worker are under way."""
    if workers <= 1:
        for batch in batches:
            yield _clean(deidentifier, batch)
        return
    deidentifier.warm_up()  # before the fork, so that the lists and the model are read once and shared
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"), initializer=_begin_work) as pool:
        under_way: deque[Future[list[list[Cleaned]]]] = deque()
        try:
            for batch in batches:
                under_way.append(pool.submit(_clean, deidentifier, batch))
                if len(under_way) >= 2 * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            raise WardroundError(
                "a process of the de-identification was stopped from outside, perhaps for lack of memory; "
                "what was finished is stored: run again, with fewer workers"
            ) from None
        finally:
            for future in under_way:
                future.cancel()


def _begin_work() -> None:
    """In a worker: Ctrl-C is for the parent alone, and a parent that was killed takes its workers along, who would wait for ever with notes in memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _clean(deidentifier: Deidentifier, batch: list[Work]) -> list[list[Cleaned]]:
    try:
        return deidentifier.clean(batch)
    except WardroundError:
        raise
    except Exception as error:
        # an unexpected error may carry what it stumbled over: only its kind and place go on
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_globals.get('__name__')}, line {place.tb_lineno}" if place else "an unknown place"
        raise WardroundError(
            f"de-identification failed with {type(error).__name__} in {where}; the batch of {len(batch)} patients was not stored"
        ) from None
