"""One round of ten sites and 1.24 million parameters: plain, masked by us, and masked by Flower's own SecAgg+.

All three go over the same in-process grid, with every message turned into protobuf bytes and back; the model travels down and an update of
known numbers up, drawn before the clock runs, so that nothing is measured but the aggregation. Time is CPU time of coordinator and sites together.

    masked       ours: five phases, 32-bit words, ChaCha20 masks, signatures and commitments on everything
    plain        the same loop with the exchange `plain`: what federated averaging sends
    secaggplus   Flower's `SecAggPlusWorkflow` and `secaggplus_mod`, every site sharing with every other, threshold as ours

Memory is the coordinator's: what resident memory grows by, from an idle grid to the sum, in a process of its own for 5, 20 and 50 sites. The
sites' own state lies on the disk meanwhile; one site works at a time, so its few megabytes are the same whatever the number. Flower's
SuperLink is another process and is not in it.
"""

import ctypes
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from common.journal import JSON
from common.progress import Progress
from simulations.bench.figures import Outcome, speedup, summary
from simulations.bench.measure import Work, in_child, interleaved, peak_bytes

SITES, WORDS = 10, 1_240_000
MEMORY_SITES = (5, 20, 50)
M_MMAP_THRESHOLD = -3
"""Its number in glibc's malloc.h."""

TARGETS = {"bytes": 1.01, "speedup": 3.0, "memory": 1.1}


class Round(Protocol):
    """One rival: `run` aggregates once; bytes and error are those of its last run."""

    bytes_up: int
    bytes_down: int

    def run(self) -> None: ...
    def error(self) -> float: ...


class SecureAggregation:
    """`wardround bench secagg`."""

    name = "secagg"
    about = "masked aggregation against plain FedAvg and Flower's SecAgg+"

    def __init__(self, sites: int = SITES, words: int = WORDS, memory_sites: tuple[int, ...] = MEMORY_SITES) -> None:
        self._sites, self._words, self._memory_sites = sites, words, memory_sites

    def run(self, repetitions: int, progress: Progress) -> Outcome:
        from simulations.bench.secagg_rivals import RANK, FlowerRound, OurRound, site_names, update_of

        drawn = {site: update_of(site, self._words // RANK * RANK) for site in site_names(self._sites)}
        with tempfile.TemporaryDirectory() as folder:
            rounds: dict[str, Round] = {
                "masked": OurRound("masked", self._sites, self._words, Path(folder) / "masked", drawn),
                "plain": OurRound("plain", self._sites, self._words, Path(folder) / "plain", drawn),
                "secaggplus": FlowerRound(self._sites, self._words, drawn),
            }
            works: dict[str, Work] = {name: each.run for name, each in rounds.items()}
            progress.start("aggregate", len(works) * (repetitions + 1))
            errors = {}
            for name, each in rounds.items():
                each.run()
                errors[name] = each.error()
                progress.advance()
            seconds = interleaved(works, repetitions, progress)
        progress.start("coordinator's memory", len(self._memory_sites))
        memory = {}
        for sites in self._memory_sites:
            memory[sites] = in_child(measure_memory, sites, self._words)
            progress.advance()
        rows: list[Mapping[str, JSON]] = [
            {
                "rival": name, "sites": self._sites, "words": self._words, "cpu_seconds": sorted(seconds[name])[len(seconds[name]) // 2],
                "bytes_up": each.bytes_up, "bytes_down": each.bytes_down, "largest_error": errors[name],
            }
            for name, each in rounds.items()
        ]  # fmt: skip
        rows += [{"rival": "masked", "sites": sites, "words": self._words, "coordinator_peak_bytes": memory[sites]} for sites in memory]
        masked, plain, few, many = rounds["masked"], rounds["plain"], min(memory), max(memory)
        return Outcome(
            self.name,
            tuple(rows),
            {
                "bytes_vs_plain": summary([(masked.bytes_up + masked.bytes_down) / (plain.bytes_up + plain.bytes_down)], TARGETS["bytes"]),
                "bytes_up_vs_plain": summary([masked.bytes_up / plain.bytes_up], TARGETS["bytes"]),
                "speedup_vs_flower_secaggplus": speedup(seconds["masked"], seconds["secaggplus"], TARGETS["speedup"]),
                f"coordinator_memory_{many}_vs_{few}_sites": summary([memory[many] / memory[few]], TARGETS["memory"]),
            },
        )


def measure_memory(sites: int, words: int) -> int:
    """By how many bytes one masked round raises this process's peak.

    Blocks above 64 KiB go back to the system when they are freed. By default glibc raises that limit as it goes, and then the peak tells how
    its heap is scattered, by some megabytes either way, instead of what the round needs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 64 * 1024)
    from simulations.bench.secagg_rivals import OurRound

    with tempfile.TemporaryDirectory() as folder:
        each = OurRound("masked", sites, words, Path(folder))
        OurRound("masked", 3, 100, Path(folder) / "small").run()  # what the first round of a process imports counts for nobody
        before, peak = peak_bytes(each.run)
        return peak - before
