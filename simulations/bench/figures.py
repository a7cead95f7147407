"""What a benchmark is and what it gives out: rows as measured, and ratios with the interval over their repetitions."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from common.errors import ConfigError
from common.journal import JSON
from common.progress import Progress

REPETITIONS = 7
"""The fewest repetitions of a published ratio: the smallest and largest of 7 hold the median of the distribution with 98.4 %."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median, smallest and largest over repetitions. `at_least` says on which side of the target is good."""

    median: float
    low: float
    high: float
    target: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.median >= self.target if self.at_least else self.median <= self.target


@dataclass(frozen=True, slots=True)
class Outcome:
    """`rows` are what was measured, `ratios` what is promised of it: ours / theirs unless the key says speedup."""

    name: str
    rows: tuple[Mapping[str, JSON], ...]
    ratios: Mapping[str, Ratio]

    def as_json(self) -> dict[str, JSON]:
        ratios: dict[str, JSON] = {
            key: {"median": r.median, "low": r.low, "high": r.high, "target": r.target} for key, r in self.ratios.items()
        }
        return {"name": self.name, "machine": machine(), "rows": self.rows, "ratios": ratios}


class Benchmark(Protocol):
    """One comparison. `run` measures every rival `repetitions` times, in turn, and reports how far it is."""

    name: str
    about: str

    def run(self, repetitions: int, progress: Progress) -> Outcome: ...


def ratio(ours: Sequence[float], theirs: Sequence[float], target: float) -> Ratio:
    """Ours / theirs of each repetition: what disturbed the machine disturbed both. Good is at most `target`."""
    return summary([a / b for a, b in zip(ours, theirs, strict=True)], target)


def speedup(ours: Sequence[float], theirs: Sequence[float], target: float) -> Ratio:
    """Theirs / ours of each repetition. Good is at least `target`."""
    return summary([b / a for a, b in zip(ours, theirs, strict=True)], target, at_least=True)


def summary(values: Sequence[float], target: float, *, at_least: bool = False) -> Ratio:
    """The median of `values` and their range, which is an interval for the true median: of 1 − 2^(1−n) for n repetitions."""
    if not values:
        raise ConfigError("a ratio needs at least one repetition; raise --repetitions")
    return Ratio(statistics.median(values), min(values), max(values), target, at_least)


def worst(*ratios: Ratio) -> Ratio:
    """The one that is furthest from good, as the figure to be quoted."""
    return min(ratios, key=lambda r: r.median if r.at_least else -r.median)


def machine() -> dict[str, JSON]:
    """Where the figures were measured: processor, cores that this process may use, threads of a product, versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "peft", "opacus", "numpy")},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
