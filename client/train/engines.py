"""The engines that turn rows into one gradient a unit. Everything after that (clip, grid, noise) is the same for all of them.

`fast` is ours: one backward pass over many units (`lora_grads.py`), or none through the layers where the head alone is trained. `opacus` (`opacus_engine.py`) is the public library's, kept for those who
want to compare. Both give the same gradients up to the rounding of the arithmetic.

Protects against: one unit's NaN or infinity in another's gradient. Some kernels fill a product up with zeros times what lies behind a row in memory,
and 0·NaN is NaN: in bfloat16 with inner sizes that are no multiple of 32, a row that is not finite was seen to spoil the one before it. So a
micro-batch with a gradient that is not finite is computed again unit by unit.
Does not protect against: the time that takes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from client.train.lora_grads import HeadReading, UnitStore, recording
from client.train.objectives import Objective
from client.train.packed import Packed, attending_within_rows, pack, trunk
from common.adapters import HEAD, TensorSpec
from common.errors import TrainingRefused
from common.models import SharedBase

R = TypeVar("R")


@dataclass(frozen=True, slots=True, repr=False)
class UnitRows(Generic[R]):
    """The rows of one unit in one step, at most k. Their gradients are averaged: the unit is what is clipped."""

    rows: tuple[R, ...]

    def __repr__(self) -> str:
        return f"UnitRows({len(self.rows)} rows)"


@dataclass(frozen=True, slots=True)
class Part(Generic[R]):
    """Rows of one unit that are computed together; each counts with `weight`, one over the unit's rows."""

    rows: tuple[R, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class Task(Generic[R]):
    """What is trained on what: adapter `adapter` of the base, its tensors `trained`, the objective, and the head's share of the norm."""

    base: SharedBase
    adapter: str
    trained: tuple[TensorSpec, ...]
    objective: Objective[R]
    head_factor: float = 1.0

    @property
    def dimensions(self) -> int:
        """d, the length of the update."""
        return sum(tensor.size for tensor in self.trained)

    @property
    def gradient_dtype(self) -> torch.dtype:
        return torch.float64 if self.base.lm.dtype == torch.float64 else torch.float32

    def tokens(self, row: R) -> int:
        return sum(map(len, self.objective.sequences(row)))


class GradientEngine(Protocol):
    """isolates: whether a unit's gradient is the same, bit for bit, whichever other units are in the call; if not, units are passed one by one."""

    isolates: bool

    def gradients(self, task: Task[R], parts: Sequence[Part[R]]) -> Tensor:
        """Gradient of weight·Σ losses of each part with respect to the trained tensors → (parts, d), float32 (float64 for a float64 base)."""
        ...


class FastEngine:
    """One forward and one backward pass over all parts, packed end to end."""

    isolates = True

    def gradients(self, task: Task[R], parts: Sequence[Part[R]]) -> Tensor:
        found = self._together(task, parts)
        if len(parts) > 1 and not bool(found.isfinite().all()):
            found = torch.cat([self._together(task, [part]) for part in parts])
        return found

    def _together(self, task: Task[R], parts: Sequence[Part[R]]) -> Tensor:
        batch = pack([task.objective.sequences(row) for part in parts for row in part.rows], task.base.device)
        spans, last = [], 0
        for part in parts:
            start = batch.ends[last - 1] if last else 0
            last += len(part.rows)
            spans.append((start, batch.ends[last - 1]))
        store = UnitStore(task.trained, spans, task.gradient_dtype, task.base.device)
        with recording(task.base, task.adapter, task.trained, store), attending_within_rows(task.base, batch):
            backward(task, parts, _states_read(task, parts, batch), store)
        return store.flat


class HeadEngine:
    """For a head that is trained alone: nothing below it moves, so what it reads of a row is computed once and remembered.

    The same gradients as `FastEngine`, bit for bit. One object serves any number of steps; it forgets when another trunk is under the head,
    and what it remembers (states of private text) lives no longer than the object.
    """

    isolates = True

    def __init__(self) -> None:
        self._trunk = b""
        self._states: dict[tuple[tuple[int, ...], ...], Tensor] = {}

    @staticmethod
    def fits(task: Task[R]) -> bool:
        return [tensor.name for tensor in task.trained] == [HEAD]

    def gradients(self, task: Task[R], parts: Sequence[Part[R]]) -> Tensor:
        if not self.fits(task):
            raise TrainingRefused(
                "the layers below the head are trained too, so what it reads changes with every step; use the engine `fast`"
            )
        trunk_now = _digest(task)
        if trunk_now != self._trunk:
            self._trunk = trunk_now
            self._states.clear()
        rows = {tuple(task.objective.sequences(row)): row for part in parts for row in part.rows}
        unknown = [Part((row,), 1.0) for key, row in rows.items() if key not in self._states]
        if unknown:
            self._remember(task, unknown)
        found = self._together(task, parts)
        if len(parts) > 1 and not bool(found.isfinite().all()):
            found = torch.cat([self._together(task, [part]) for part in parts])
        return found

    def _remember(self, task: Task[R], rows: Sequence[Part[R]]) -> None:
        """What the head reads of each row, a part of its own."""
        batch = pack([task.objective.sequences(part.rows[0]) for part in rows], task.base.device)
        with torch.no_grad(), recording(task.base, task.adapter, task.trained, None), attending_within_rows(task.base, batch):
            states = _states_read(task, rows, batch)
        if len(rows) > 1 and not bool(states.isfinite().all()):
            for part in rows:
                self._remember(task, [part])
            return
        counts = [sum(map(len, task.objective.reads(part.rows[0]))) for part in rows]
        for part, found in zip(rows, states.split(counts), strict=True):
            self._states[tuple(task.objective.sequences(part.rows[0]))] = found.clone()

    def _together(self, task: Task[R], parts: Sequence[Part[R]]) -> Tensor:
        hidden = torch.cat([self._states[tuple(task.objective.sequences(row))] for part in parts for row in part.rows])
        store = UnitStore(task.trained, [(0, 0)] * len(parts), task.gradient_dtype, task.base.device)
        with recording(task.base, task.adapter, task.trained, store):
            backward(task, parts, hidden, store)
        return store.flat


def _digest(task: Task[R]) -> bytes:
    """Of everything below the head: base and frozen adapter."""
    sha = hashlib.sha256(task.base.digest.encode())
    for name, parameter in sorted(task.base.parameters(task.adapter).items()):
        if name != HEAD:
            sha.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
    return sha.digest()


def _states_read(task: Task[R], parts: Sequence[Part[R]], batch: Packed) -> Tensor:
    """The trunk's output at the positions that the losses read, row after row (reads, width). Inside `recording` and `attending_within_rows`."""
    reads = [task.objective.reads(row) for part in parts for row in part.rows]
    places = [
        sequence[position]
        for row_places, row_reads in zip(batch.places, reads, strict=True)
        for sequence, positions in zip(row_places, row_reads, strict=True)
        for position in positions
    ]
    return trunk(task.base, batch).index_select(0, torch.tensor(places, device=task.base.device))


def backward(task: Task[R], parts: Sequence[Part[R]], hidden: Tensor, store: UnitStore) -> None:
    """Gradient of weight·Σ losses of each part into `store`."""
    rows = [row for part in parts for row in part.rows]
    unit_of_row = [u for u, part in enumerate(parts) for _ in part.rows]

    def scores(states: Tensor, owners: Sequence[int]) -> Tensor:
        units = [unit_of_row[row] for row in owners]
        recorded = store if any(t.name == HEAD for t in task.trained) else None
        read: Tensor = HeadReading.apply(states, task.base.heads[task.adapter], units, task.head_factor, recorded)  # type: ignore[no-untyped-call]  # torch's apply
        return read

    losses = task.objective.losses(task.base, hidden, rows, scores)
    require_one_loss_a_row(losses, len(rows))
    weights = torch.tensor([part.weight for part in parts for _ in part.rows], dtype=losses.dtype, device=losses.device)
    (losses * weights).sum().backward()


def require_one_loss_a_row(losses: Tensor, rows: int) -> None:
    """A loss of another shape would be broadcast or averaged over rows, and a unit's gradient would depend on its neighbours."""
    if losses.shape != (rows,):
        raise TrainingRefused(f"the objective gave losses of shape {tuple(losses.shape)} for {rows} rows; it must give one number a row")
