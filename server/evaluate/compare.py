"""Runs side by side: the same figure of each in one row."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.evaluate.summary import Summary, figures_of

Cell = bool | int | float | str | None

MAIN = (
    "sites", "patients", "rounds", "unit", "delta", "reward_accuracy", "reward.calibration_error", "sft.loss_before", "sft.loss_after",
    "sft.improvement.value", "ppo.reward_before", "ppo.reward_after", "ppo.kl", "ppo.win_rate", "ppo.win_rate_low", "ppo.win_rate_high",
    "deid.notes", "deid.identifiers", "deid.quarantined", "deid.leak_upper_bound", "leaks.found", "bytes_up", "peak_rss_mb",
)  # fmt: skip
"""What a table on a screen shows; CSV and JSON hold every figure."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`rows` maps a figure's name to its value in each run, in the order of `runs`; None where a run has no such figure."""

    runs: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]

    def main(self) -> dict[str, tuple[Cell, ...]]:
        """The rows for a screen: the main figures, the largest ε, the gates, and the seconds in all."""
        return {key: row for key, row in self.rows.items() if key in MAIN or key in _ADDED or key.endswith(".held")}

    def csv(self) -> str:
        """One line a figure, one column a run, with a head; numbers unrounded."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["figure", *self.runs])
        writer.writerows([key, *("" if cell is None else cell for cell in row)] for key, row in self.rows.items())
        return out.getvalue()


_ADDED = ("epsilon_max", "seconds_total", "gates_held")


def compare(summaries: Mapping[str, Summary]) -> Comparison:
    """Figures of named runs, aligned by name; a figure that only some runs have stays in the table."""
    flat: list[dict[str, Cell]] = []
    for summary in summaries.values():
        added: dict[str, Cell] = {
            "epsilon_max": max(summary.epsilon.values(), default=None),
            "seconds_total": sum(summary.seconds.values()),
            "gates_held": f"{sum(g.held for g in summary.gates.values())} of {len(summary.gates)}",
        }
        flat.append(added | figures_of(summary.model_dump(mode="json")))
    keys = list(dict.fromkeys(key for one in flat for key in one))
    return Comparison(tuple(summaries), {key: tuple(one.get(key) for one in flat) for key in keys})


def names_of(runs: Sequence[str]) -> list[str]:
    """Names for the columns: the folders' last parts where they differ, otherwise the whole paths."""
    short = [run.rstrip("/").rsplit("/", 1)[-1] for run in runs]
    return short if len(set(short)) == len(short) else list(runs)
