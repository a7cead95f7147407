"""A thousand canaries in one run: how many of them can an attacker tell apart, and does the claimed ε survive it?

The attacker sees every noised step, knows every canary's gradient and guesses which canaries took part. On ours the lower bound stays
below the claim; on a twin whose noise is off, or a quarter of what is claimed, it rises above.
"""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from client.train.dp_sgd import private_step
from client.train.engines import FastEngine, Part, Task
from client.train.examples import poisson_sample
from client.train.noise import Stream
from client.train.objectives import CompletionLoss
from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig
from common.privacy.accounting import calibrate, epsilon
from common.privacy.audit import one_run_epsilon
from common.privacy.mechanism import Mechanism, Unit
from tests.helpers.gradients import Given, Listed, Width

CANARIES, GUESSES = 2000, 240
CLAIM, DELTA, GRID = 3.0, 1e-5, 2.0**-16


def key_of(*names: object) -> bytes:
    return hashlib.sha256(repr(names).encode()).digest()


def coins(seed: int, count: int) -> np.ndarray[Any, Any]:
    return Stream(key_of("coins", seed), "audit").bernoulli(0.5, count)


def bound_of(scores: np.ndarray[Any, Any], taken: np.ndarray[Any, Any]) -> float:
    """The attacker calls the highest scores in and the lowest out, and says nothing of the rest."""
    order = np.argsort(scores)
    right = int(taken[order[-GUESSES // 2 :]].sum() + (~taken[order[: GUESSES // 2]]).sum())
    return one_run_epsilon(len(scores), GUESSES, right, DELTA)


def audit(rate: float, steps: int, *, noise: float, seed: int) -> float:
    """Canaries along coordinates of their own: the worst case of DP-SGD, where nothing of one hides another."""
    sigma = calibrate(CLAIM, DELTA, rate, steps)
    mechanism = Mechanism(sigma, rate, 1.0, rate * CANARIES, Unit.PATIENT)
    taken = coins(seed, CANARIES)
    data = Listed([[(i, -2.0)] for i in range(CANARIES) if taken[i]])
    scores = np.zeros(CANARIES)
    for step in range(steps):
        key = key_of("step", seed, step)
        units = poisson_sample(data, rate=rate, rows_per_unit=1, key=key)
        result = private_step(Width(CANARIES), Given(), units, mechanism, key=key, grid=GRID, sites=4, token_budget=256, noise_share=noise)  # type: ignore[arg-type]  # Width is all of a task that is used here
        scores += result.words
    return bound_of(scores, taken)


@pytest.mark.parametrize(("rate", "steps"), [(1.0, 1), (0.25, 16)])
def test_the_claim_survives_the_audit_and_the_twin_without_noise_does_not(rate: float, steps: int) -> None:
    ours = audit(rate, steps, noise=1.0, seed=1)
    silent = audit(rate, steps, noise=0.0, seed=1)
    assert ours <= CLAIM, f"the audit proves ε ≥ {ours:.2f} and {CLAIM} is claimed"
    assert silent > CLAIM, f"without noise the audit proves only ε ≥ {silent:.2f}: it has no power"
    assert ours > 0.2, f"the audit proves only ε ≥ {ours:.2f} on ours: it would miss a fault"


def test_a_quarter_of_the_noise_is_found_out() -> None:
    assert audit(1.0, 1, noise=0.25, seed=1) > CLAIM


def test_the_audit_of_rows_through_the_model() -> None:
    """The same on gradients that the engine takes of real rows, all at once: the attacker projects the update on each of them."""
    base = load_base("tiny", "float32")
    spec = base.spec(AdapterConfig(rank=8, alpha=16.0))
    draws = torch.Generator().manual_seed(2)
    base.put("local", Adapter(spec, {t.name: (torch.randn(t.shape, generator=draws) * 0.1).numpy() for t in spec.tensors}))
    task = Task(base, "local", spec.trained(), CompletionLoss())
    count, clip = 1000, 1e-3
    rows = CompletionLoss().made_up([9] * count, lambda n: tuple(torch.randint(3, 590, (n,), generator=draws).tolist()))
    gradients = torch.cat([FastEngine().gradients(task, [Part((row,), 1.0) for row in rows[i : i + 100]]) for i in range(0, count, 100)])
    directions = torch.nn.functional.normalize(gradients - gradients.mean(0), dim=1).double().numpy()
    taken = coins(3, count)
    sigma = calibrate(CLAIM, DELTA, 1.0, 1)
    mechanism = Mechanism(sigma, 1.0, clip, float(count), Unit.PATIENT)
    data = Listed([[rows[i]] for i in range(count) if taken[i]])
    bounds = {}
    for noise in (1.0, 0.0):
        key = key_of("model")
        units = poisson_sample(data, rate=1.0, rows_per_unit=1, key=key)
        result = private_step(
            task, FastEngine(), units, mechanism, key=key, grid=clip * GRID, sites=4, token_budget=1000, noise_share=noise
        )
        bounds[noise] = bound_of(-directions @ result.words, taken)
    assert bounds[1.0] <= CLAIM < bounds[0.0], f"with noise ε ≥ {bounds[1.0]:.2f}, without ε ≥ {bounds[0.0]:.2f}"


def test_the_claim_is_what_the_accountant_says() -> None:
    sigma = calibrate(CLAIM, DELTA, 0.25, 16)
    assert 0.98 * CLAIM <= epsilon([Mechanism(sigma, 0.25, 1.0, 1.0, Unit.PATIENT, 16)], DELTA) <= CLAIM
