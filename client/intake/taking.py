"""An export into the vault: all of it, or nothing with the file, line and field that is wrong."""

from collections.abc import Iterator
from typing import TypeVar

from client.intake.export import Export
from client.sealed.vault import Ingested, Vault
from common.errors import IntakeError
from common.progress import Progress

Item = TypeVar("Item")
STEP_BYTES = 1000


def take_in(vault: Vault, export: Export, progress: Progress) -> Ingested:
    """Store the export's notes and records. Raises IntakeError by file, line and field, also for an export that holds nothing at all."""
    progress.start("read the export, kB", sum(file.stat().st_size for file in export.files if file.is_file()) // STEP_BYTES)
    try:
        done = vault.ingest(_told(export.notes, export, progress), _told(export.records, export, progress))
    except IntakeError as error:
        if error.path != vault.folder:
            raise
        # The vault knows what is wrong and not where it stood: it takes notes one by one, so it is the line read last.
        raise IntakeError(export.reading.path, export.reading.line, error.field, error.problem) from None
    if not any((done.notes, done.revised, done.unchanged, done.withdrawn, done.records)):
        raise IntakeError(
            export.files[-1] if export.files else export.reading.path, None, None, "holds no note and no patient; is it the right file?"
        )
    return done


def _told(items: Iterator[Item], export: Export, progress: Progress) -> Iterator[Item]:
    shown = export.reading.bytes // STEP_BYTES
    for item in items:
        yield item
        read = export.reading.bytes // STEP_BYTES
        progress.advance(read - shown)
        shown = read
