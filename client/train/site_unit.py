"""One private round with the whole site as the unit: train freely inside, clip what the round moved, add a share of the noise.

    G = Σ_j ḡ_j   over the local steps j, θ ← θ − η·ḡ_j between them;      words = clamp( taken · round(−clip(G) / γ) + noise )

For consortia of many small sites (a practice, a ward) whose wish is that nothing of what they contribute can be told. A site takes
part in a round with the public probability q, by a coin of its own; when it does not, it trains all the same and sends its share of the noise
alone, and neither under the masks nor by the clock does anybody see the difference. So q amplifies as in every other step, and the accountant is the same (McMahan et al. 2018, with
the noise in shares).

Protects against: whatever one site holds, its number of patients included: the sum moves by at most C; a coordinator that reads the coin from how
soon the answer comes, for which q would amplify nothing.
Does not protect against: one patient of the site beyond that (the guarantee of all is the guarantee of each, at the same ε); that the site
is in the study, which is public; a coordinator that sees each update, for which shares are too little (`placement = "sum"` wants masks).
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.train.dp_sgd import StepResult, clip_bound, clipped_integers, noised, unit_gradients
from client.train.engines import GradientEngine, Task, UnitRows
from client.train.noise import Stream
from common.privacy.mechanism import Mechanism

R = TypeVar("R")


def site_step(
    task: Task[R],
    engine: GradientEngine,
    rows: Sequence[R],
    mechanism: Mechanism,
    move: Callable[[Tensor], None],
    *,
    key: bytes,
    local_steps: int,
    rows_per_step: int,
    grid: float,
    sites: int,
    token_budget: int,
    noise_share: float,
) -> StepResult:
    """The noised, clipped sum of the site's own gradients over its local steps, negated. `move(ḡ)` takes the model one step on.

    rows_per_step of `rows` are drawn for each local step. A round that is sat out and one whose gradient is not finite take the same work; they
    and a site without rows send noise alone, at the same cost.
    """
    total = torch.zeros(1, task.dimensions, dtype=torch.float64, device=task.base.device)
    taken = bool(Stream(key, "units").bernoulli(mechanism.sampling_rate, 1)[0]) and bool(rows)
    for step in range(local_steps if rows else 0):
        chosen = Stream(key, f"rows/{step}").choose(len(rows), rows_per_step)
        (gradient,) = unit_gradients(task, engine, [UnitRows(tuple(rows[i] for i in chosen))], token_budget)
        total += gradient.to(total.dtype)
        if step + 1 < local_steps:
            move(gradient[0])
    if not taken:
        total.zero_()
    bound = clip_bound(mechanism.clip_norm, grid, task.dimensions)
    integers, kept = clipped_integers(total, bound, grid, mechanism.clip_norm)
    clipped: NDArray[np.int64] = integers[0].to(torch.int64).cpu().numpy()
    words = noised(clipped, mechanism, key=key, grid=grid, sites=sites, noise_share=noise_share)
    return StepResult(words, int(taken), int(not kept[0]))
