"""Measured comparisons with what others would use: one module a subject, listed here.

    wardround bench                  every comparison
    wardround bench dp --json        one of them, as one JSON object

A new comparison is a class with a `name`, a sentence `about` and `run(repetitions, progress)`, and one line in `BENCHMARKS`.
Its module imports torch and its rivals' libraries inside its functions: every measuring process imports this list first.
"""

from collections.abc import Sequence

from common.errors import ConfigError
from simulations.bench.deid import Deidentification
from simulations.bench.dp import PrivateStep
from simulations.bench.export import Export
from simulations.bench.figures import Benchmark
from simulations.bench.ppo import PpoStep
from simulations.bench.secagg import SecureAggregation

BENCHMARKS: tuple[Benchmark, ...] = (PrivateStep(), Deidentification(), PpoStep(), SecureAggregation(), Export())


def chosen(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of those names, in the order of the list; all for none. Raises ConfigError for a name that is not there."""
    known = [benchmark.name for benchmark in BENCHMARKS]
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no benchmark `{name}`; the names are {', '.join(known)}")
    return [benchmark for benchmark in BENCHMARKS if not names or benchmark.name in names]
