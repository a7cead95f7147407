"""The same gradients through Opacus: its hooks give one gradient a row, which are added up by unit before anyone clips.

Stock Opacus clips rows. A unit with several rows, and a pair is two, then adds up to as many times C as it has rows (1.55·C was measured
for pairs, without bound in its ghost mode). So only its per-row gradients are used; clipping, grid and noise are ours.

Rows are padded here, and matrix kernels change with the batch's shape, so units go through one by one (`isolates = False`).
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from opacus.grad_sample import GradSampleHooks
from torch import Tensor, nn

from client.train.engines import Part, Task, require_one_loss_a_row
from client.train.lora_grads import refuse_unruled
from common.adapters import HEAD
from common.models import SharedBase

R = TypeVar("R")


class OpacusEngine:
    """See the head of the module."""

    isolates = False

    def gradients(self, task: Task[R], parts: Sequence[Part[R]]) -> Tensor:
        base, objective = task.base, task.objective
        rows = [row for part in parts for row in part.rows]
        part_of_row = [i for i, part in enumerate(parts) for _ in part.rows]
        sequences = [(i, ids) for i, row in enumerate(rows) for ids in objective.sequences(row)]
        batch = base.pad([ids for _, ids in sequences])
        places = [(at, position) for at, reads in enumerate(r for row in rows for r in objective.reads(row)) for position in reads]
        at, position = (torch.tensor(column, device=base.device) for column in zip(*places, strict=True))
        head = _head(task)
        owners_of_scores: list[int] = []

        def scores(hidden: Tensor, owners: Sequence[int]) -> Tensor:
            assert head is not None, "only reward adapters are scored, and they have a head"
            owners_of_scores.extend(owners)
            read: Tensor = head(hidden.to(head.weight.dtype))[:, 0]
            return read

        with _hooked(task, head), base.using(task.adapter):
            losses = objective.losses(base, base.hidden(batch)[at, position], rows, scores)
            require_one_loss_a_row(losses, len(rows))
            weights = torch.tensor([part.weight for part in parts for _ in part.rows], dtype=losses.dtype, device=losses.device)
            with warnings.catch_warnings():
                # The lowest adapter's input needs no gradient; torch warns that the hook fires all the same, which is what is wanted.
                warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
                (losses * weights).sum().backward()
            parameters = base.parameters(task.adapter)
            # Hooks of LoRA layers count sequences of the batch; the head's count the states it read.
            by_sequence = torch.tensor([part_of_row[i] for i, _ in sequences], device=base.device)
            by_score = torch.tensor([part_of_row[i] for i in owners_of_scores], dtype=torch.long, device=base.device)
            blocks = []
            for tensor in task.trained:
                sample = _sample(parameters[tensor.name]) * (task.head_factor if tensor.name == HEAD else 1.0)
                owners = by_score if tensor.name == HEAD else by_sequence
                total = sample.new_zeros(len(parts), tensor.size)
                blocks.append(total.index_add_(0, owners, sample.reshape(len(owners), -1)).to(task.gradient_dtype))
        return torch.cat(blocks, dim=1)


def _head(task: Task[R]) -> nn.Linear | None:
    """The reward head as a layer that Opacus knows; its weight is the adapter's own parameter."""
    parameter = task.base.heads.get(task.adapter)
    if parameter is None:
        return None
    head = nn.Linear(parameter.shape[1], 1, bias=False, device=parameter.device, dtype=parameter.dtype)
    head.weight = parameter
    return head


def _sample(parameter: nn.Parameter) -> Tensor:
    sample: Tensor = parameter.grad_sample  # type: ignore[attr-defined]  # Opacus puts it there
    return sample


@contextlib.contextmanager
def _hooked(task: Task[R], head: nn.Linear | None) -> Iterator[None]:
    """Opacus's hooks on the layers that hold trained tensors, and on nothing else; everything is taken off again."""
    base = task.base
    parameters = base.parameters(task.adapter)
    names = {tensor.name for tensor in task.trained}
    refuse_unruled(base, parameters, names)
    layers = [layer for layer in _linear_layers(base, task.adapter, head) if any(layer.weight is parameters[name] for name in names)]
    for name in names:
        parameters[name].requires_grad_(True)
    for layer in layers:
        layer.train()  # Opacus records only what is in training mode; these layers have no dropout
    hooks: Any = GradSampleHooks(nn.ModuleList(layers), loss_reduction="sum", strict=True)
    try:
        yield
    finally:
        hooks.cleanup()
        for layer in layers:
            layer.eval()
        for name in names:
            parameters[name].requires_grad_(False)
            parameters[name].grad = None


def _linear_layers(base: SharedBase, adapter: str, head: nn.Linear | None) -> Iterator[nn.Linear]:
    for _, layer in base.lora_layers():
        if adapter in layer.lora_A:
            yield layer.lora_A[adapter]
            yield layer.lora_B[adapter]
    if head is not None:
        yield head
