"""De-identification against what a hospital could run instead, on the same texts in the same run.

    ours             the first three tiers and the second reading, one mode for every text, nobody's record at hand
    presidio_loop    Presidio, one `analyze` a note
    presidio_opt_in  with its opt-in American recognizers
    philter_lite     philter-lite, where it is installed

Texts: notes of this project's synthetic hospitals; the blind parts of notes in styles that nobody generated (`deid_notes`); and, when the
variable WARDROUND_DATA names a folder of the public sets, the two thirds of the Presidio sentences' templates that nothing was tuned on, and
the half of MEDDOCAN (Spanish) that nothing was tuned on. None is a real hospital's. Beside them, as rows without a target, bare surnames that a
list takes for something else (`deid_surnames`). Speed is of the synthetic notes, with surrogates and the
scan for survivors on our side and detection alone on theirs.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.journal import JSON
from common.progress import Progress
from simulations.bench.deid_notes import marked_notes
from simulations.bench.deid_score import Found, Tally, interval, tally
from simulations.bench.deid_surnames import surnames
from simulations.bench.figures import Outcome, Ratio, speedup
from simulations.bench.measure import Work, interleaved

DATA = "WARDROUND_DATA"
TARGETS = {
    "synthetic": (0.995, 0.92),
    "unseen_notes": (0.995, 0.92),
    "ordinary_notes": (0.995, 0.92),
    "plain_notes": (0.995, 0.92),
    "presidio": (0.97, 0.88),
    "meddocan": (0.93, 0.0),
}
SPEEDUP = 3.0
_SPEED_NOTES = 24


@dataclass(frozen=True, slots=True)
class Corpus:
    name: str
    rows: Sequence[Mapping[str, Any]]

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.rows]


class Deidentification:
    """`wardround bench deid`. `recall` and `precision` are those of the set that is furthest from its target."""

    name = "deid"
    about = "de-identification against a Presidio loop, Presidio's opt-in recognizers and philter-lite"

    def __init__(self, patients: int = 40, data: Path | None = None) -> None:
        self._patients = patients
        self._data = data or (Path(os.environ[DATA]) if DATA in os.environ else None)

    def run(self, repetitions: int, progress: Progress) -> Outcome:
        from simulations.bench.deid_rivals import has_philter, philter_lite, presidio_loop, presidio_opt_in

        rivals = {"presidio_loop": presidio_loop, "presidio_opt_in": presidio_opt_in} | (
            {"philter_lite": philter_lite} if has_philter() else {}
        )
        corpora = [
            synthetic(self._patients),
            Corpus("unseen_notes", marked_notes("blind")),
            Corpus("ordinary_notes", marked_notes("ordinary")),
            Corpus("plain_notes", marked_notes("plain")),
            *public(self._data),
        ]
        corpora += [Corpus(f"surnames_{kind}", kind_rows) for kind, kind_rows in surnames().items()]
        notes = corpora[0].texts[:_SPEED_NOTES]
        works: dict[str, Work] = {"ours": lambda: ours(notes)}
        works |= {name: (lambda find=find: [find(text) for text in notes]) for name, find in rivals.items()}  # type: ignore[misc] # bound by default
        progress.start("de-identification: speed", len(works) * (repetitions + 1))
        for work in works.values():
            work()
            progress.advance()
        seconds = interleaved(works, repetitions, progress)
        characters = sum(map(len, notes))
        rows: list[Mapping[str, JSON]] = [
            {
                "what": "speed",
                "rival": name,
                "characters": characters,
                "cpu_seconds": list(took),
                "kchars_per_cpu_second": characters / min(took) / 1e3,
            }
            for name, took in seconds.items()
        ]
        ratios = {"speedup_vs_presidio_loop": speedup(seconds["ours"], seconds["presidio_loop"], SPEEDUP)}
        worst: dict[str, Ratio] = {}
        progress.start("de-identification: quality", len(corpora) * (len(rivals) + 1))
        for corpus in corpora:
            found = {"ours": ours(corpus.texts)}
            progress.advance()
            for name, find in rivals.items():
                found[name] = [find(text) for text in corpus.texts]
                progress.advance()
            tallies = {
                name: [tally(row["text"], row["spans"], f) for row, f in zip(corpus.rows, all_found, strict=True)]
                for name, all_found in found.items()
            }
            rows += [_row(corpus.name, name, each) for name, each in tallies.items()]
            if corpus.name not in TARGETS:
                continue
            for figure, target in zip(("recall", "precision"), TARGETS[corpus.name], strict=True):
                ratio = _ratio(tallies["ours"], figure, target)
                ratios[f"{figure}_{corpus.name}"] = ratio
                if figure not in worst or ratio.median - ratio.target < worst[figure].median - worst[figure].target:
                    worst[figure] = ratio
        return Outcome(self.name, tuple(rows), worst | ratios)


def _ratio(tallies: Sequence[Tally], figure: str, target: float) -> Ratio:
    low, high = interval(tallies, figure)
    return Ratio(getattr(sum(tallies, Tally()), figure), low, high, target, at_least=True)


def _row(corpus: str, rival: str, tallies: Sequence[Tally]) -> dict[str, JSON]:
    whole = sum(tallies, Tally())
    return {
        "what": "quality", "texts": len(tallies), "set": corpus, "rival": rival, "identifiers": whole.identifiers, "recall": whole.recall,
        "precision": whole.precision, "clean_texts": whole.clean_texts, "clean_texts_touched": whole.touched,
    }  # fmt: skip


def ours(texts: Sequence[str]) -> list[Found]:
    """What would be masked of each text, each a patient's of its own whom no index knows."""
    from client.deid.deidentifier import Deidentifier, Work
    from client.records import PatientRecord, RawNote

    works = [Work((RawNote(str(i), str(i), text),), PatientRecord(""), bytes(32)) for i, text in enumerate(texts)]
    return [[(span.start, span.end) for span in cleaned.spans[0]] for (cleaned,) in Deidentifier().clean(works)]


def synthetic(patients: int) -> Corpus:
    """Notes of two synthetic hospitals of other habits, without their patients' records."""
    from simulations.patients.notes import HospitalSpec, write_hospital

    rows = []
    for number in (1, 6):
        with tempfile.TemporaryDirectory() as folder:
            write_hospital(Path(folder), HospitalSpec(f"bench-{number}", number, patients // 2, 0), seed=41)
            rows += [row for row in _read(Path(folder) / "gold.jsonl") if "/" not in row["id"]]
    return Corpus("synthetic", rows)


def public(folder: Path | None) -> list[Corpus]:
    """The parts of the public sets that nothing was tuned on: templates whose number 3 does not divide, every second document."""
    if folder is None:
        return []
    sentences = [row for row in _read(folder / "deid_presidio_synth" / "dev.jsonl") if int(row["template_id"]) % 3]
    return [Corpus("presidio", sentences), Corpus("meddocan", _read(folder / "deid_meddocan_es" / "dev.jsonl")[1::2])]


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
