"""Which public prompts a PPO step works on: every prompt once before any comes again, the same draw for the same seed."""

import hashlib
from collections.abc import Sequence

import numpy as np

from common.errors import ConfigError


def derived_seed(*names: str | int) -> int:
    """A 63-bit seed named by what it is for, such as (study seed, "ppo", step): two purposes never share a stream."""
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:8], "big") >> 1


def prompts_of_step(prompts: Sequence[str], step: int, per_step: int, seed: int) -> list[str]:
    """The `per_step` prompts of step 0, 1, …: consecutive pieces of an endless row of shuffles of the whole set.

    Raises ConfigError when there are fewer prompts than a step takes: a batch of repeats would be a smaller batch in disguise.
    """
    if len(prompts) < per_step:
        raise ConfigError(f"{len(prompts)} prompts are fewer than `ppo.prompts_per_step` = {per_step}; add prompts or lower it")
    chosen: list[str] = []
    for place in range(step * per_step, (step + 1) * per_step):
        shuffle, index = divmod(place, len(prompts))
        order = np.random.Generator(np.random.PCG64(derived_seed(seed, "prompts", shuffle))).permutation(len(prompts))
        chosen.append(prompts[int(order[index])])
    return chosen
