"""The largest contribution of one pair, over a thousand of them: at most C on ours, far above it on twins that clip rows.

Public code for private reward models takes the two answers of a pair as two rows. Clipped apart, a pair adds up to 2·C; ghost clipping
that weights the pair's loss by the mean of its rows' factors has no bound at all.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from client.train.dp_sgd import clip_bound, clipped_integers, private_step, unit_gradients
from client.train.engines import FastEngine, Part, Task, UnitRows
from client.train.objectives import EncodedPair, PairLoss
from common.adapters import HEAD, Adapter
from common.bases import load_base
from common.config import AdapterConfig
from common.models import Encoded
from common.privacy.mechanism import Mechanism, Unit

CLIP = 0.05
"""Low enough that nearly every row reaches it: the largest contribution is then decided by how units are formed."""
GRID = CLIP * 2.0**-16
RANDOM, ADVERSARIAL = 800, 200


class RowLoss(PairLoss):
    """The twin: each answer of a pair is a row of its own. Its rows are (pair, which answer)."""

    def sequences(self, row: Any) -> Any:
        return super().sequences(row[0])

    def reads(self, row: Any) -> Any:
        return super().reads(row[0])

    def losses(self, base: Any, hidden: torch.Tensor, rows: Any, scores: Any) -> torch.Tensor:
        live = torch.nn.functional.one_hot(torch.tensor([row[1] for row in rows]), 2)

        def one_side(states: torch.Tensor, owners: Any) -> torch.Tensor:
            both = scores(states, owners).view(-1, 2)
            return (both * live + both.detach() * (1 - live)).view(-1)

        return super().losses(base, hidden, [row[0] for row in rows], one_side)


@pytest.fixture(scope="module")
def task() -> Task[EncodedPair]:
    base = load_base("tiny", "float32")
    spec = base.spec(AdapterConfig(rank=4, alpha=8.0), head=True)
    draws = torch.Generator().manual_seed(1)
    base.put("local", Adapter(spec, {t.name: (torch.randn(t.shape, generator=draws) * 0.1).numpy() for t in spec.tensors}))
    return Task(base, "local", spec.trained(), PairLoss(0.01))


def ids(draws: torch.Generator, low: int, high: int) -> tuple[int, ...]:
    length = int(torch.randint(low, high, (1,), generator=draws))
    return tuple(torch.randint(3, 590, (length,), generator=draws).tolist())


def random_pairs(count: int, seed: int) -> Iterator[EncodedPair]:
    draws = torch.Generator().manual_seed(seed)
    for _ in range(count):
        prompt = ids(draws, 2, 5)
        yield EncodedPair(*(Encoded(prompt + ids(draws, 2, 8), len(prompt)) for _ in range(2)))


def adversarial_pairs(count: int, seed: int) -> Iterator[EncodedPair]:
    """What a careless or hostile site could hold: huge weights, one answer twice, answers that differ in a token, one token against many,
    one token repeated, a weight of nothing."""
    draws = torch.Generator().manual_seed(seed)
    for i in range(count):
        prompt, answer = ids(draws, 2, 5), ids(draws, 3, 8)
        other = answer[:-1] + ids(draws, 1, 2)
        chosen, rejected, weight = [
            (answer, other, 1e6),
            (answer, answer, 1.0),
            (answer, other, 1.0),
            (answer[:1], ids(draws, 30, 31), 1.0),
            (answer[:1] * 12, other, 1e20),
            (answer, ids(draws, 3, 8), 1e-30),
        ][i % 6]
        yield EncodedPair(Encoded(prompt + chosen, len(prompt)), Encoded(prompt + rejected, len(prompt)), weight)


def norms(task: Task[Any], units: list[UnitRows[Any]]) -> torch.Tensor:
    """‖contribution‖/C of each unit, from the integers that would be added up."""
    bound = clip_bound(CLIP, GRID, task.dimensions)
    found = [
        clipped_integers(g, bound, GRID, CLIP)[0].double().norm(dim=1) * GRID / CLIP for g in unit_gradients(task, FastEngine(), units, 800)
    ]
    return torch.cat(found)


def test_no_pair_of_a_thousand_adds_more_than_the_clip_norm(task: Task[EncodedPair]) -> None:
    pairs = [*random_pairs(RANDOM, 5), *adversarial_pairs(ADVERSARIAL, 6)]
    found = norms(task, [UnitRows((pair,)) for pair in pairs])
    assert len(found) == RANDOM + ADVERSARIAL
    assert float(found.max()) <= 1.0, f"a pair adds {float(found.max()):.6f}·C"
    assert float(found.max()) > 0.99, "no pair reaches the bound: the law was not tried"


def test_the_twin_that_clips_rows_lets_a_pair_add_more(task: Task[EncodedPair]) -> None:
    twin = Task(task.base, "local", task.trained, RowLoss(0.01))
    bound = clip_bound(CLIP, GRID, task.dimensions)
    ours, theirs = [], []
    for pair in random_pairs(60, 5):
        (mine,) = unit_gradients(task, FastEngine(), [UnitRows((pair,))], 1000)
        rows = FastEngine().gradients(twin, [Part(((pair, side),), 1.0) for side in (0, 1)])  # type: ignore[list-item]  # the twin's rows
        assert torch.allclose(rows.sum(0), mine[0], rtol=1e-3, atol=1e-5), "the twin's rows must add up to the same gradient"
        ours.append(float(clipped_integers(mine, bound, GRID, CLIP)[0].double().norm()) * GRID / CLIP)
        theirs.append(float(clipped_integers(rows, bound, GRID, CLIP)[0].sum(0).double().norm()) * GRID / CLIP)
    assert max(ours) <= 1.0
    assert max(theirs) > 1.2, f"the twin that clips rows adds only {max(theirs):.4f}·C: this test proves nothing"


def test_ghost_clipping_by_rows_has_no_bound(task: Task[EncodedPair]) -> None:
    """The other public twin: the pair's loss is weighted by the mean of its rows' clipping factors. A row with a small gradient keeps factor 1."""
    head = task.base.heads["local"]
    before = head.data.clone()
    head.data *= 200  # a reward head that has grown: gradients through the trunk grow with it
    twin = Task(task.base, "local", task.trained, RowLoss(0.0))
    try:
        pairs = [EncodedPair(p.chosen, p.rejected, 1e3) for p in random_pairs(12, 9)]
        worst = 0.0
        for pair in pairs:
            rows = FastEngine().gradients(twin, [Part(((pair, side),), 1.0) for side in (0, 1)])  # type: ignore[list-item]  # the twin's rows
            factors = (CLIP / rows.norm(dim=1)).clamp(max=1.0)
            factors[0] = 1.0  # as for an answer whose own gradient vanishes
            worst = max(worst, float((rows.sum(0) * factors.mean()).norm()) / CLIP)
        assert worst > 10, f"{worst:.1f}"
        assert float(norms(task, [UnitRows((pair,)) for pair in pairs]).max()) <= 1.0
    finally:
        head.data = before


def test_many_pairs_of_one_owner_are_one_unit(task: Task[EncodedPair]) -> None:
    """A patient or annotator with sixty pairs adds what one pair may add; as sixty units they would add many times as much."""
    pairs = tuple(random_pairs(60, 7))
    assert float(norms(task, [UnitRows(pairs)])[0]) <= 1.0
    apart = [clipped_integers(g, clip_bound(CLIP, GRID, task.dimensions), GRID, CLIP)[0].sum(0) for g in unit_gradients(task, FastEngine(), [UnitRows((p,)) for p in pairs], 800)]  # fmt: skip
    assert float(torch.stack(apart).sum(0).double().norm()) * GRID / CLIP > 2


def test_the_step_itself_moves_by_at_most_the_clip_norm_when_a_pair_is_taken_out(task: Task[EncodedPair]) -> None:
    mechanism = Mechanism(1.0, 0.5, CLIP, 4.0, Unit.PAIR)
    units = [UnitRows((pair,)) for pair in (*random_pairs(6, 11), *adversarial_pairs(6, 12))]

    def words(batch: list[UnitRows[EncodedPair]]) -> torch.Tensor:
        step = private_step(task, FastEngine(), batch, mechanism, key=bytes(32), grid=GRID, sites=4, token_budget=100)
        return torch.from_numpy(step.words).double()

    whole = words(units)
    moved = [float((whole - words(units[:i] + units[i + 1 :])).norm()) * GRID / CLIP for i in range(len(units))]
    assert max(moved) <= 1.0, f"{max(moved):.6f}·C"
    assert task.trained[-1].name == HEAD or any(t.name == HEAD for t in task.trained), "the head's gradient must be part of the norm"
