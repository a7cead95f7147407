"""Does a unit's gradient move when the rest of the batch changes? Looked at before the first step, and again on the live batches of some steps.

Clipping bounds what a unit adds only if its gradient is a function of the unit alone. `probe` checks engine, model and objective at start-up, on
rows of random tokens; `Watched` checks live batches: of every micro-batch of a watched step one unit, drawn from the step's key, is computed
a second time without its neighbours. Both ask for the same bits: the sensitivity bound has no room for a difference.

Protects against: layers that mix rows, kernels that depend on the batch, a library that begins to do so while the process runs or only on
rows that random tokens do not resemble; a trained tensor that gets no gradient.
Does not protect against: mixing so rare that no watched step meets it. Refusing a step is an answer that depends on the batch, but only where no
guarantee holds any more.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from client.train.dp_sgd import unit_gradients
from client.train.engines import GradientEngine, Part, Task, UnitRows
from client.train.noise import Stream
from common.adapters import HEAD
from common.errors import TrainingRefused
from common.privacy.ledger import Entry

R = TypeVar("R")

WATCHED_SHARE = 1 / 8
"""Share of the steps that are watched. There one unit of every micro-batch is computed twice, in products of at least BLOCK_TOKENS: a quarter of a
micro-batch of 2,048 tokens, so about 3 % of the training time in all."""

PROBE_LENGTHS = (19, 33, 12, 300, 220)
"""Tokens of the probe's rows: more than one block in all, so that a kernel that changes with the number of tokens is met."""

_PROBED: set[tuple[object, ...]] = set()


def probe(task: Task[R], engine: GradientEngine) -> None:
    """Refuse an engine and model on which a unit's gradient depends on its neighbours, or a trained tensor gets none.

    Runs once a process for each base, adapter shape, objective and engine, on rows of random tokens: the gradient of a unit alone and among
    short and long neighbours must be the same. Raises TrainingRefused.
    """
    name = (task.base.digest, task.trained, type(task.objective), type(engine), torch.get_num_threads(), torch.is_autocast_enabled("cpu"))
    if name in _PROBED:
        return
    vocabulary = int(task.base.lm.config.vocab_size)

    def draw(count: int) -> tuple[int, ...]:
        words = Stream(hashlib.sha256(b"wardround probe").digest(), f"{count}").words(count)
        return tuple(int(word % np.uint64(vocabulary)) for word in words)

    rows = task.objective.made_up(PROBE_LENGTHS, draw)
    units = [UnitRows((row,)) for row in rows]
    pair = UnitRows((rows[0], rows[1]))
    # Each with an engine of its own: one that remembers a row's states would be compared with itself.
    alone = next(unit_gradients(task, type(engine)(), [pair], 10**9))[0]
    _refuse_missing(task, alone)
    among = torch.cat(list(unit_gradients(task, type(engine)(), [units[4], units[2], pair, units[3]], 10**9)))[2]
    _refuse_moved(task, alone, among)
    _PROBED.add(name)


def is_watched(entry: Entry, share: float = WATCHED_SHARE) -> bool:
    """Whether this step is watched: by a digest of its public name, so that nothing private decides and a replayed step is watched again."""
    name = f"wardround watch\0{entry.study}\0{entry.stage}\0{entry.round}\0{entry.step}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) < share * 2.0**64


class Watched:
    """An engine that computes one unit of every call a second time, alone. Raises TrainingRefused when that gives another gradient."""

    def __init__(self, engine: GradientEngine, key: bytes) -> None:
        self.isolates = engine.isolates
        self._engine, self._draws = engine, Stream(key, "watch")

    def gradients(self, task: Task[R], parts: Sequence[Part[R]]) -> Tensor:
        found = self._engine.gradients(task, parts)
        if len(parts) > 1:
            place = int(self._draws.words(1)[0] % np.uint64(len(parts)))
            # By an engine that remembers nothing of the row.
            _refuse_moved(task, type(self._engine)().gradients(task, [parts[place]])[0], found[place])
        return found


def _refuse_moved(task: Task[R], alone: Tensor, among: Tensor) -> None:
    # Not a number is itself here: such a unit adds nothing, whatever stands beside it.
    if not torch.allclose(alone, among, rtol=0.0, atol=0.0, equal_nan=True):
        moved = float((alone - among).norm() / alone.norm())
        raise TrainingRefused(
            f"on base model `{task.base.name}` the gradient of one unit moves by {moved:.2g} of its norm with the units beside it, so no bound on "
            "a unit's contribution holds; its layers mix rows, or its kernels depend on the batch: use another base model"
        )


def _refuse_missing(task: Task[R], gradient: Tensor) -> None:
    """A tensor whose gradient is exactly zero on the probe is not on the path from input to loss (dA is zero as long as B is)."""
    parameters = task.base.parameters(task.adapter)
    start = 0
    for tensor in task.trained:
        part = gradient[start : start + tensor.size]
        start += tensor.size
        partner = tensor.name.replace(".lora_A.", ".lora_B.")
        silent = tensor.name != HEAD and ".lora_A." in tensor.name and not bool(parameters[partner].any())
        if not silent and not bool(part.any()):
            raise TrainingRefused(
                f"tensor `{tensor.name}` gets no gradient: nothing it does reaches the loss; take it out of `adapter.targets`"
            )
