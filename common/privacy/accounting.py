"""What a list of mechanisms costs one unit: ε at a given δ, and the noise that a budget allows.

    from common.privacy.mechanism import Mechanism, Unit
    step = Mechanism(noise_multiplier=0.73, sampling_rate=0.1, clip_norm=1.0, expected_units=9.0, unit=Unit.PATIENT)
    epsilon([step.times(18)], delta=1e-6)        # 7.88

Google's privacy loss distributions (Doroshenko et al. 2022, connect-the-dots, pessimistic), Poisson-subsampled Gaussian, neighbours that
add or remove one unit. The result is an upper bound; a finer `discretization` lowers it by less than 0.01.

Protects against: composing stages of different units (refused), an optimistic approximation (the Gaussian-DP accountant reported 0.02 for a
true 0.18 and appears nowhere), floating-point drift from the order of composition (mechanisms are merged by (σ, q) and sorted first), a σ so
small that working out its ε would take the memory of the machine (it counts as no noise).
Does not protect against: mechanisms that were run and never listed (the ledger's duty), or batches drawn otherwise than by Poisson sampling.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, reduce
from typing import Any, TypeAlias

from common.errors import BudgetExhausted, ConfigError
from common.privacy.mechanism import LARGEST_NOISE, SMALLEST_NOISE, Mechanism, Placement

GATE_DISCRETIZATION = 1e-3
"""Width of the loss grid for live decisions; `CERTIFICATE_DISCRETIZATION` is for the figure that is published."""
CERTIFICATE_DISCRETIZATION = 1e-4

MOST_CHOICES = 64
"""Sets of sites that `federation_epsilon` compares one by one; with more it uses a bound."""

Merged: TypeAlias = tuple[tuple[float, float, int], ...]
"""(σ, q, steps) of all mechanisms with the same σ and q, sorted: the identity of a spend as far as ε is concerned."""


def merge(mechanisms: Iterable[Mechanism]) -> Merged:
    """Mechanisms with identical (σ, q) become one with the steps added; ε does not depend on their order.

    Raises ConfigError when they protect different units: ε of a patient and ε of a pair are not the same currency.
    """
    steps: Counter[tuple[float, float]] = Counter()
    units = set()
    for mechanism in mechanisms:
        steps[mechanism.noise_multiplier, mechanism.sampling_rate] += mechanism.steps
        units.add(mechanism.unit)
    if len(units) > 1:
        raise ConfigError(f"mechanisms of the units {', '.join(sorted(units))} cannot be composed; keep one account for each unit")
    return tuple(sorted((sigma, rate, count) for (sigma, rate), count in steps.items()))


def epsilon(mechanisms: Iterable[Mechanism], delta: float, *, discretization: float = GATE_DISCRETIZATION) -> float:
    """ε(δ) of all `mechanisms` in sequence on the same unit; 0.0 for none. Raises ConfigError for mixed units or δ outside (0, 1)."""
    return epsilon_merged(merge(mechanisms), delta, discretization)


@lru_cache(maxsize=4096)
def epsilon_merged(merged: Merged, delta: float, discretization: float = GATE_DISCRETIZATION) -> float:
    """As `epsilon`, for a spend that is merged already. Remembered: sites that share a schedule share the arithmetic."""
    if not 0 < delta < 1:
        raise ConfigError(f"delta is {delta}; it must lie in (0, 1), below 1 over the number of units")
    if not merged:
        return 0.0
    if merged[0][0] < SMALLEST_NOISE:  # sorted by σ; infinity is an upper bound too
        return math.inf
    total = _repeated(*merged[0], discretization)
    for sigma, rate, steps in merged[1:]:
        total = total.compose(_repeated(sigma, rate, steps, discretization))
    return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=64)
def _single(sigma: float, rate: float, discretization: float) -> Any:
    # Half of what a site's process takes to start, and of a round's five messages to it only one needs any ε.
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        sigma, value_discretization_interval=discretization, sampling_prob=rate, pessimistic_estimate=True
    )


@lru_cache(maxsize=64)
def _repeated(sigma: float, rate: float, steps: int, discretization: float) -> Any:
    single = _single(sigma, rate, discretization)
    return single if steps == 1 else single.self_compose(steps)


@lru_cache(maxsize=256)
def _calibrated(target: float, delta: float, rate: float, steps: int, spent: Merged) -> float:
    def cost(sigma: float) -> float:
        merged = Counter({(s, q): n for s, q, n in spent})
        merged[sigma, rate] += steps
        return epsilon_merged(tuple(sorted((s, q, n) for (s, q), n in merged.items())), delta)

    before = epsilon_merged(spent, delta)
    if before >= target or cost(LARGEST_NOISE) > target:
        raise BudgetExhausted(
            f"ε = {before:.3f} is spent and {target:.3f} is allowed at δ = {delta:g}: no noise makes {steps} more steps fit; "
            "raise the budget or train fewer steps"
        )
    # ε falls roughly as a power of σ, so bisect on log σ: the upper end always fits the budget.
    low, high = SMALLEST_NOISE, LARGEST_NOISE
    guess = 1.0
    while high / low > 1 + 1e-4:
        spends = cost(guess)
        if spends > target:
            low = guess
        else:
            high = guess
            if spends > 0.999 * target:
                break
        ratio = (spends - before) / max(target - before, 1e-9)
        step = min(max(ratio, 0.25), 4.0) ** 0.75  # a damped Newton step on the power law, kept inside the bracket
        guess = guess * step if low < guess * step < high else math.sqrt(low * high)
    return math.ceil(high * 1e5) / 1e5


def calibrate(epsilon: float, delta: float, sampling_rate: float, steps: int, spent: Sequence[Mechanism] = ()) -> float:
    """The smallest σ with which `steps` steps at `sampling_rate`, on top of `spent`, cost at most `epsilon` at `delta`.

    Found within 0.1 % of ε or of σ, never below; at least SMALLEST_NOISE. Raises BudgetExhausted when no σ fits.
    """
    if not (0 < sampling_rate <= 1 and steps >= 1 and epsilon > 0):
        raise ConfigError(f"cannot calibrate for ε = {epsilon}, q = {sampling_rate}, {steps} steps: all must be above 0, q at most 1")
    return _calibrated(epsilon, delta, sampling_rate, steps, merge(spent))


def federation_epsilon(sites: Mapping[str, Sequence[Mechanism]], delta: float, *, shared_by: int = 1) -> float:
    """ε of one unit over a whole federation.

    shared_by=1: every unit is known to one site, so the sites compose in parallel and the worst of them counts.
    shared_by=k: the bound for a unit that k sites hold without knowing of each other. Where each site adds its own noise, the worst k sites
    compose in sequence. Under placement `sum` the k contributions meet in one sum with the noise of one: see `_in_one_sum`.
    """
    if not 1 <= shared_by <= max(len(sites), 1):
        raise ConfigError(f"shared_by is {shared_by}; it lies between 1 and the {len(sites)} sites")
    if shared_by > 1 and any(m.placement is Placement.SUM for mechanisms in sites.values() for m in mechanisms):
        return _in_one_sum(sites.values(), delta, shared_by)
    schedules = Counter(merge(mechanisms) for mechanisms in sites.values())
    distinct = sorted(schedules)
    # The same schedule may be chosen as often as sites run it; the sites of one study share one, so there is little to search.
    candidates = itertools.combinations_with_replacement(range(len(distinct)), shared_by)
    choices = list(itertools.islice(candidates, MOST_CHOICES + 1))
    if len(choices) > MOST_CHOICES:
        return epsilon_merged(_join([_envelope(distinct)] * shared_by), delta)
    feasible = (choice for choice in choices if all(n <= schedules[distinct[i]] for i, n in Counter(choice).items()))
    return max((epsilon_merged(_join(distinct[i] for i in choice), delta) for choice in feasible), default=0.0)


def _join(parts: Iterable[Merged]) -> Merged:
    steps: Counter[tuple[float, float]] = Counter()
    for part in parts:
        for sigma, rate, count in part:
            steps[sigma, rate] += count
    return tuple(sorted((sigma, rate, count) for (sigma, rate), count in steps.items()))


def _envelope(schedules: Iterable[Merged]) -> Merged:
    """The most steps of each kind that any schedule has: no site runs more, so k envelopes bound every choice of k sites."""
    most: dict[tuple[float, float], int] = {}
    for sigma, rate, steps in itertools.chain.from_iterable(schedules):
        most[sigma, rate] = max(steps, most.get((sigma, rate), 0))
    return tuple(sorted((sigma, rate, steps) for (sigma, rate), steps in most.items()))


def _in_one_sum(sites: Iterable[Sequence[Mechanism]], delta: float, shared_by: int) -> float:
    """ε of a unit that k sites add to the same noised sums: each takes it by its own coin, so a sum moves by J·C with J ~ Binomial(k, q).

    The dominating pair is a mixture of Gaussians (Ganesh 2024, group-level DP-SGD). A unit whose sites fall into different sums moves them by a
    vector of length at most J·C, which this pair dominates too. Steps that a site noises in full are composed k times, as elsewhere.
    """
    found = list(sites)
    summed, alone = (
        _envelope(merge(m for m in mechanisms if m.placement is placement) for mechanisms in found)
        for placement in (Placement.SUM, Placement.SITE)
    )
    parts = [_met(sigma, rate, shared_by, GATE_DISCRETIZATION).self_compose(steps) for sigma, rate, steps in summed]
    parts += [_repeated(sigma, rate, steps * shared_by, GATE_DISCRETIZATION) for sigma, rate, steps in alone]
    return float(reduce(lambda one, other: one.compose(other), parts).get_epsilon_for_delta(delta))


@lru_cache(maxsize=16)
def _met(sigma: float, rate: float, shared_by: int, discretization: float) -> Any:
    """One step of a sum that a unit enters by `shared_by` independent coins."""
    from dp_accounting.pld import privacy_loss_distribution

    times = range(shared_by + 1)
    return privacy_loss_distribution.from_mixture_gaussian_mechanism(
        sigma,
        list(times),
        [math.comb(shared_by, j) * rate**j * (1 - rate) ** (shared_by - j) for j in times],
        value_discretization_interval=discretization,
        pessimistic_estimate=True,
    )
