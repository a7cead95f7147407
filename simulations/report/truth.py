"""Did the de-identification let anything through? Invented notes come with the truth of where their identifiers stand.

Protects against: a bound on leaking notes that rests on the same lists and detectors that did the work.
Does not protect against: identifiers that a simulated hospital does not write; values of fewer than four letters or digits are
not looked for, since they occur in any text.
"""

import json
from collections import defaultdict
from pathlib import Path

from client.hospital.site import Site
from common.errors import StorageError
from common.storage import storage_errors
from server.evaluate.leaks import squeezed

GOLD = "gold.jsonl"
SHORTEST = 4


def leaking_notes(site: Site, export: Path) -> tuple[int, int] | None:
    """(released notes in which one of their own identifiers still stands, released notes); None when the export has no truth.

    A note's dialogues count with it. Raises StorageError when the truth cannot be read.
    """
    path = export / GOLD
    if not path.exists():
        return None
    identifiers = _identifiers(path)
    leaking = notes = 0
    for note in site.vault.notes():
        notes += 1
        texts = [note.text, *(text for dialogue in note.dialogues for text in (dialogue.prompt, dialogue.answer))]
        written = f" {' | '.join(map(squeezed, texts))} "
        leaking += any(f" {value} " in written for value in identifiers[note.note_id])
    return leaking, notes


def _identifiers(path: Path) -> dict[str, set[str]]:
    """Note id → what identifies somebody in it. Rows of a note's dialogues are named NOTE/NUMBER/SIDE."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    with storage_errors(path, "read the truth"):
        lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            values = [squeezed(row["text"][span["start"] : span["end"]]) for span in row["spans"]]
            found[row["id"].partition("/")[0]].update(v for v in values if len(v.replace(" ", "")) >= SHORTEST)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StorageError(f"{path}, line {number}: not a row of truth; write the export again") from None
    return found
