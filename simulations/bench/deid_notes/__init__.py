"""Invented clinical notes in styles that no generator of the project writes, with their identifiers marked in the text.

Dictation, jottings, forms, letters and rows of eleven countries, in all cases; each was complete before any rule had been tried on it. `tuned` and
`hard` may be looked at, and rules and thresholds are tuned on them; the names network was trained on others (`simulations/ner/notes`). `hard` are 3,088
notes of fourteen writers, most of whom were asked for one difficulty after the other: people called by a word, shops named by words, rows without a
heading. `blind`, `ordinary` and `plain` are there for a figure alone: nothing is chosen by them, and only their totals are read. `blind` holds the kinds
of `tuned`; four in five of `ordinary` are what a large American hospital's database holds; `plain` are short notes as a well-kept record has them, in
whole sentences and by people who were asked for no difficulty.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

_MARK = re.compile(r"\{([nldicao]) ([^{}]*)\}")
_LABELS = {"n": "NAME", "l": "LOCATION", "d": "DATE", "i": "ID", "c": "PHONE", "a": "AGE", "o": "OTHER"}


def marked_notes(part: str) -> list[dict[str, Any]]:
    """Rows {"id", "text", "spans"} of the part `tuned`, `hard`, `blind`, `ordinary` or `plain`, as the measured comparisons read them; `OTHER` may be masked or
    not."""
    if part != "hard":
        return parse_marked(Path(__file__).with_name(f"{part}.toml").read_text(encoding="utf-8"))
    files = sorted(Path(__file__).with_name(part).glob("*.toml"))
    return [row | {"id": f"{path.stem}/{row['id']}"} for path in files for row in parse_marked(path.read_text(encoding="utf-8"))]


def parse_marked(notes: str) -> list[dict[str, Any]]:
    """The same of the text of a file."""
    rows = []
    for note in tomllib.loads(notes)["note"]:
        text, spans, end = "", [], 0
        for mark in _MARK.finditer(note["text"]):
            text += note["text"][end : mark.start()]
            span = {"start": len(text), "end": len(text) + len(mark[2]), "label": _LABELS[mark[1]]}
            spans.append(span | ({"raw_label": "AGE_OVER_89"} if mark[1] == "a" else {}))
            text += mark[2]
            end = mark.end()
        rows.append({"id": note["id"], "text": text + note["text"][end:], "spans": spans})
    return rows
