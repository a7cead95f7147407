"""Notes with their identifiers marked in the text, and what the rules of tier 1 cover of a sentence."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MARK = re.compile(r"\{([nldicao]) ([^{}]*)\}")
_LABELS = {"n": "NAME", "l": "LOCATION", "d": "DATE", "i": "ID", "c": "PHONE", "a": "AGE", "o": "OTHER"}


def marked_notes(path: Path) -> list[dict[str, Any]]:
    """Rows {"id", "text", "spans"} of a file of marked notes, as the measured comparisons read them; `OTHER` may be masked or not."""
    rows = []
    for note in tomllib.loads(path.read_text(encoding="utf-8"))["note"]:
        text, spans, end = "", [], 0
        for mark in _MARK.finditer(note["text"]):
            text += note["text"][end : mark.start()]
            span = {"start": len(text), "end": len(text) + len(mark[2]), "label": _LABELS[mark[1]]}
            spans.append(span | ({"raw_label": "AGE_OVER_89"} if mark[1] == "a" else {}))
            text += mark[2]
            end = mark.end()
        rows.append({"id": note["id"], "text": text + note["text"][end:], "spans": spans})
    return rows


def uncovered_and_touched(text: str, identifiers: Sequence[str]) -> tuple[list[str], list[str]]:
    """(identifiers of which a letter or digit is not covered, other words of which one is), by the rules alone, without the network."""
    from client.deid.detectors import DETECTORS
    from client.deid.scan import Scan

    scan, covered, wanted, uncovered = Scan(text), bytearray(len(text)), bytearray(len(text)), []
    for detector in DETECTORS:
        for span in detector.find(scan):
            covered[span.start : span.end] = b"\1" * (span.end - span.start)
    for identifier in identifiers:
        start = text.index(identifier)
        end = start + len(identifier)
        wanted[start:end] = b"\1" * len(identifier)
        if not all(covered[i] for i in range(start, end) if text[i].isalnum()):
            uncovered.append(identifier)
    words = re.finditer(r"\w+", text)
    return uncovered, [m.group() for m in words if any(covered[m.start() : m.end()]) and not any(wanted[m.start() : m.end()])]
