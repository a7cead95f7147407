"""One private training step against the same model's non-private step and against Opacus.

Each rival does a whole step on the same rows of 256 tokens, half prompt, half answer: forward, backward, clipping and noise where it has
them, AdamW. All skip the prompt's logits, keep the base in bfloat16 and adapters in float32, and see every row in one batch.

    ours               B trained and A frozen (FFA-LoRA), a unit a row: `private_step` with grid and noise
    nonprivate         PEFT with both factors, the mean loss: the fair floor, a step that promises nothing
    nonprivate_ffa     the same with A frozen
    opacus_hooks       Opacus's hooks with both factors: one gradient a row, clipped
    opacus_ghost       Opacus's ghost clipping with both factors: norms first, a second backward pass for the sum
"""

from collections.abc import Mapping
from typing import Final

from common.journal import JSON
from common.progress import Progress
from simulations.bench.figures import Outcome, Ratio, ratio, speedup, summary, worst
from simulations.bench.measure import Work, in_child, interleaved, peak_bytes

OURS: Final = "ours"
RIVALS = (OURS, "nonprivate", "nonprivate_ffa", "opacus_hooks", "opacus_ghost")
ROW_TOKENS = 256
MEMORY_REPETITIONS = 3
TARGETS = {"time": 0.9, "memory": 0.8, "hooks": 1.4, "ghost": 2.2}


class PrivateStep:
    """`wardround bench dp`. The bare keys carry the worse of the batch sizes; each size has its own key beside them."""

    name = "dp"
    about = "one DP-LoRA step of the patient unit against a non-private PEFT step and Opacus"

    def __init__(self, base: str = "smollm2-135m-instruct", batches: tuple[int, ...] = (8, 16), row_tokens: int = ROW_TOKENS) -> None:
        self._base, self._batches, self._row_tokens = base, batches, row_tokens

    def run(self, repetitions: int, progress: Progress) -> Outcome:
        rows: list[Mapping[str, JSON]] = []
        found: dict[str, list[Ratio]] = {}
        for batch in self._batches:
            seconds = self._time(batch, repetitions, progress)
            progress.start(f"memory, batch {batch}", 1)
            memory = in_child(measure_memory, self._base, self._row_tokens, batch)
            progress.advance()
            rows += [_row(rival, batch, batch * self._row_tokens, seconds[rival], memory[rival]) for rival in seconds]
            for key, value in _ratios(seconds, memory).items():
                found.setdefault(key, []).append(value)
        each = {f"{key}_batch_{batch}": values[i] for i, batch in enumerate(self._batches) for key, values in found.items()}
        return Outcome(self.name, tuple(rows), {key: worst(*values) for key, values in found.items()} | each)

    def _time(self, batch: int, repetitions: int, progress: Progress) -> dict[str, list[float]]:
        from simulations.bench.dp_rivals import Bench

        bench = Bench(self._base, self._row_tokens)
        works: dict[str, Work] = {rival: bench.step(rival, batch) for rival in RIVALS}
        progress.start(f"private step, batch {batch}", len(works) * (repetitions + 1))
        for work in works.values():
            work()
            progress.advance()
        return interleaved(works, repetitions, progress)


def measure_memory(base: str, row_tokens: int, batch: int) -> dict[str, list[tuple[int, int]]]:
    """(idle, peak) bytes of a few steps of each rival, after one on a single row."""
    from simulations.bench.dp_rivals import Bench

    bench = Bench(base, row_tokens)
    found = {}
    for rival in RIVALS:
        bench.step(rival, 1)()
        work = bench.step(rival, batch)
        found[rival] = [peak_bytes(work) for _ in range(MEMORY_REPETITIONS)]
    return found


def _row(rival: str, batch: int, tokens: int, seconds: list[float], memory: list[tuple[int, int]]) -> dict[str, JSON]:
    time, peak = summary(seconds, 0.0), summary([float(p - idle) for idle, p in memory], 0.0)
    return {
        "rival": rival, "batch": batch, "cpu_seconds": time.median, "cpu_seconds_low": time.low, "cpu_seconds_high": time.high,
        "tokens_per_cpu_second": tokens / time.median, "peak_mb": peak.median / 1e6, "idle_mb": memory[0][0] / 1e6,
    }  # fmt: skip


def _ratios(seconds: Mapping[str, list[float]], memory: Mapping[str, list[tuple[int, int]]]) -> dict[str, Ratio]:
    def above_idle(rival: str) -> list[float]:
        return [float(peak - idle) for idle, peak in memory[rival]]

    return {
        "time_vs_nonprivate": ratio(seconds[OURS], seconds["nonprivate"], TARGETS["time"]),
        "memory_vs_nonprivate": ratio(above_idle(OURS), above_idle("nonprivate"), TARGETS["memory"]),
        "speedup_vs_opacus_hooks": speedup(seconds[OURS], seconds["opacus_hooks"], TARGETS["hooks"]),
        "speedup_vs_opacus_ghost": speedup(seconds[OURS], seconds["opacus_ghost"], TARGETS["ghost"]),
        "time_vs_nonprivate_ffa": ratio(seconds[OURS], seconds["nonprivate_ffa"], TARGETS["time"]),
        "memory_vs_nonprivate_ffa": ratio(above_idle(OURS), above_idle("nonprivate_ffa"), TARGETS["memory"]),
    }
