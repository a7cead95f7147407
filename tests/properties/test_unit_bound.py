"""No unit adds more than C to the sum, whatever its gradient: the law that ε rests on. `tests/attacks` tries it on pairs."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.train.dp_sgd import clip_bound, clipped_integers


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
