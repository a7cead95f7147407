"""A patient whose text drives the arithmetic to NaN must not take the patients beside it out of the sum: their share would tell of its presence.

Some bfloat16 kernels fill a product up with zeros times what lies behind a row in memory (seen with inner sizes that are no multiple of 32), and
0·NaN is NaN. `leaking` does so on every machine. The twin computes all units together and loses its neighbours; ours keeps them, bit for bit.
"""

from typing import Any

import pytest
import torch
from torch import nn

from client.train.dp_sgd import unit_gradients
from client.train.engines import FastEngine, HeadEngine, Task, UnitRows
from client.train.objectives import CompletionLoss, EncodedPair, PairLoss
from common.bases import load_base
from common.config import Factors
from common.models import Encoded
from tests.unit.client.test_unit_gradients import draws, task_of

FATAL = 7
"""The token on which the model fails; the made-up rows may not hold it by chance."""


@pytest.fixture
def leaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix product in which a row that is not finite spoils the row before it."""
    product = torch.mm

    def mm(left: torch.Tensor, right: torch.Tensor, **options: Any) -> torch.Tensor:
        found = product(left, right, **options)
        spoilt = (~left.isfinite().all(1)).nonzero().flatten()
        found[spoilt[spoilt > 0] - 1] = float("nan")
        return found

    monkeypatch.setattr(torch, "mm", mm)


def fatal(row: Encoded) -> Encoded:
    """Fails on its second token, and keeps the others."""
    return Encoded((row.ids[0], FATAL, *row.ids[2:]), row.prompt_length)


def made(kind: str) -> tuple[Task[Any], list[UnitRows[Any]], UnitRows[Any]]:
    """The task, units that are well, and the one that is not."""
    base = load_base("tiny", "bfloat16")
    words = base.lm.get_input_embeddings()
    words.weight = nn.Parameter(words.weight.data.clone(), requires_grad=False)  # apart from the LM head, which stays as it is
    words.weight.data[FATAL] = float("nan")
    objective: Any = CompletionLoss() if kind == "sft" else PairLoss(0.01)
    task = task_of(base, objective, Factors.HEAD if kind == "head" else Factors.FFA)
    *well, last = objective.made_up((21, 33, 18, 26), lambda n: tuple(10 + token % 580 for token in draws(n)(n)))
    broken = fatal(last) if kind == "sft" else EncodedPair(fatal(last.chosen), fatal(last.rejected))
    return task, [UnitRows((row,)) for row in well], UnitRows((broken,))


def gradients(engine: Any, task: Task[Any], units: list[UnitRows[Any]]) -> torch.Tensor:
    return torch.cat(list(unit_gradients(task, engine, units, 10**6)))


class Together(FastEngine):
    """The unprotected twin."""

    def gradients(self, task: Task[Any], parts: Any) -> torch.Tensor:
        return self._together(task, parts)


@pytest.mark.usefixtures("leaking")
@pytest.mark.parametrize("kind", ["sft", "pair", "head"])
def test_a_unit_that_is_not_finite_leaves_its_neighbours_in_the_sum(kind: str) -> None:
    task, well, broken = made(kind)
    engine = HeadEngine if kind == "head" else FastEngine
    without = gradients(engine(), task, well)
    beside = gradients(engine(), task, [well[0], broken, *well[1:]])
    assert without.isfinite().all()
    assert not beside[1].isfinite().all(), "the attack: this unit's gradient is not finite"
    assert torch.equal(beside[[0, 2, 3]], without)
    twin = gradients(Together(), task, [well[0], broken, *well[1:]])
    assert not twin[0].isfinite().all(), "the twin loses the unit before it"
