"""No unit adds more than C to the sum, whatever its rows: the law that ε rests on. Its twin that clips rows breaks it."""

import math
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.train.dp_sgd import clip_bound, clipped_integers, unit_gradients
from client.train.engines import FastEngine, Part, Task, UnitRows
from client.train.objectives import EncodedPair, PairLoss
from common.adapters import Adapter
from common.config import AdapterConfig
from common.models import Encoded, load_base


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.floats(1e-3, 1e3),
    st.integers(0, 2**31),
    st.floats(-30, 30),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([None, float("nan"), float("inf"), 3e38, 1e-45]),
)
def test_integers_of_any_gradient_stay_within_the_clip_norm(
    size: int, clip_norm: float, seed: int, magnitude: float, dtype: torch.dtype, poison: float | None
) -> None:
    grid = clip_norm * 2.0**-16
    generator = torch.Generator().manual_seed(seed)
    gradient = (torch.randn(1, size, generator=generator, dtype=torch.float64) * 10.0**magnitude).to(dtype)
    if poison is not None:
        gradient[0, seed % size] = poison
    integers, _ = clipped_integers(gradient, clip_bound(clip_norm, grid, size), grid, clip_norm)
    squares = sum(int(v) ** 2 for v in integers[0].tolist())
    # C/γ = 2¹⁶, so the norm of the integers is compared exactly, in whole numbers.
    assert squares <= 2**32, f"‖g‖ = {math.sqrt(squares) / 2**16:.9f}·C"


def _pair_task() -> Task[EncodedPair]:
    base = load_base("tiny", "float32")
    spec = base.spec(AdapterConfig(rank=4, alpha=8.0), head=True)
    generator = torch.Generator().manual_seed(1)
    base.put("local", Adapter(spec, {t.name: (torch.randn(t.shape, generator=generator) * 0.1).numpy() for t in spec.tensors}))
    return Task(base, "local", spec.trained(), PairLoss(0.01))


class _RowLoss(PairLoss):
    """The twin: each answer of a pair is a row of its own, as in public code that clips rows. Its rows are (pair, which answer)."""

    def sequences(self, row: Any) -> Any:
        return super().sequences(row[0])

    def reads(self, row: Any) -> Any:
        return super().reads(row[0])

    def losses(self, base: Any, hidden: torch.Tensor, rows: Any, scores: Any) -> torch.Tensor:
        pairs = [row[0] for row in rows]

        def one_side(states: torch.Tensor, owners: Any) -> torch.Tensor:
            both = scores(states, owners).view(-1, 2)
            live = torch.tensor([row[1] for row in rows])
            keep = torch.nn.functional.one_hot(live, 2).to(both.dtype)
            return (both * keep + both.detach() * (1 - keep)).view(-1)

        return super().losses(base, hidden, pairs, one_side)


def _norm(integers: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(integers.double())) / 2**16


def test_one_pair_adds_at_most_the_clip_norm_and_the_row_clipping_twin_more() -> None:
    task = _pair_task()
    twin = Task(task.base, "local", task.trained, _RowLoss(0.01))
    generator = np.random.Generator(np.random.PCG64(0))
    # Clipped at a level that every row reaches: the largest contribution is then decided by how units are formed.
    ours, theirs = [], []
    for _ in range(24):
        ids = [tuple(int(t) for t in generator.integers(3, 590, n)) for n in generator.integers(6, 20, 2)]
        pair = EncodedPair(Encoded(ids[0], 3), Encoded(ids[1], 3))
        clip, grid = 0.05, 0.05 * 2.0**-16
        bound = clip_bound(clip, grid, task.dimensions)
        (mine,) = unit_gradients(task, FastEngine(), [UnitRows((pair,))], 1000)
        rows = FastEngine().gradients(twin, [Part(((pair, side),), 1.0) for side in (0, 1)])  # type: ignore[list-item]  # the twin's rows
        assert torch.allclose(rows.sum(0), mine[0], rtol=1e-3, atol=1e-5), "the twin's rows must add up to the same gradient"
        ours.append(_norm(clipped_integers(mine, bound, grid, clip)[0]))
        theirs.append(_norm(clipped_integers(rows, bound, grid, clip)[0].sum(0)))
    assert max(ours) <= 1.0, f"a pair adds {max(ours):.4f}·C"
    assert max(theirs) > 1.2, f"the twin that clips rows adds only {max(theirs):.4f}·C: this test proves nothing"
