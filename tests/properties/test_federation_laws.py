"""Laws of the sum: exact, order-free, never wrapping; of the cohorts: disjoint and complete; of the optimizer: linear where it should be."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import Stage, TrainingConfig
from common.errors import ConfigError, NotFinite, ProtocolError, ShapeError, TooFewSurvivors
from common.secure.context import RoundContext
from common.secure.exchange import PlainCoordinator, PlainSite, Summed
from common.secure.exchanges import site_exchange
from common.secure.fixedpoint import (
    LARGEST,
    clamp,
    from_words,
    grid_step,
    limit,
    require_headroom,
    to_floats,
    to_words,
    words_from_bytes,
    words_to_bytes,
)
from server.federate.aggregate import mean_direction, step
from server.federate.cohort import deal
from tests.helpers.federation import SPEC

NAMES = tuple(f"site-{i:02d}" for i in range(12))
int32s = st.integers(-(2**31), 2**31 - 1)


def context(sites: Sequence[str]) -> RoundContext:
    return RoundContext("0" * 64, Stage.SFT, None, 0, 0, tuple(sites), "1" * 64, "2" * 64)


# -- fixed point -------------------------------------------------------------------------------------------------------


@given(st.lists(int32s, max_size=50))
def test_words_are_the_integers(values: list[int]) -> None:
    integers = np.array(values, np.int32)
    words = to_words(np.clip(integers, -LARGEST, LARGEST).astype(np.int32), 1)
    assert [int(w) for w in words] == [max(v, -LARGEST) % 2**32 for v in values]
    back = from_words(words_from_bytes(words_to_bytes(words), len(values)))
    np.testing.assert_array_equal(back, np.clip(integers, -LARGEST, LARGEST))


@given(st.integers(1, 10_000), st.lists(int32s, min_size=1, max_size=20))
def test_clamped_updates_can_never_wrap(sites: int, values: list[int]) -> None:
    clamped = clamp(np.array(values, np.int64), sites)
    total = sites * clamped.astype(object)
    assert int(max(abs(v) for v in total)) <= LARGEST
    to_words(clamped, sites)  # refuses otherwise


@given(st.integers(2, 10_000))
def test_a_word_beyond_its_share_is_refused(sites: int) -> None:
    for value in (limit(sites) + 1, -limit(sites) - 1):
        with pytest.raises(ProtocolError, match="could wrap"):
            to_words(np.array([0, value], np.int32), sites)


def test_modular_sums_of_words_are_sums_of_integers() -> None:
    """What lets masks ride along: adding words modulo 2³² and reading the result as signed gives the exact sum."""
    rng = np.random.default_rng(0)
    updates = [clamp(rng.integers(-(2**31), 2**31, 1000), 8) for _ in range(8)]
    words = np.zeros(1000, np.uint32)
    for update in updates:
        words += to_words(update, 8)
    np.testing.assert_array_equal(from_words(words), sum(u.astype(np.int64) for u in updates))


def test_headroom_is_a_matter_of_public_figures() -> None:
    require_headroom(clip_norm=1.0, noise_multiplier=0.73, expected_units=9.0, sites=8)
    with pytest.raises(ConfigError, match=r"10000 sites leave each of them words up to 214,748.*could wrap; split the sites into cohorts"):
        require_headroom(clip_norm=1.0, noise_multiplier=0.73, expected_units=9.0, sites=10_000)
    with pytest.raises(ConfigError, match="could wrap"):
        require_headroom(clip_norm=1.0, noise_multiplier=float("inf"), expected_units=9.0, sites=8)
    with pytest.raises(ConfigError, match="at least one site"):
        limit(0)


@given(st.floats(1e-3, 1e3), st.integers(3, 1000))
def test_headroom_does_not_depend_on_the_clip_norm(clip_norm: float, sites: int) -> None:
    def refused(norm: float) -> bool:
        try:
            require_headroom(clip_norm=norm, noise_multiplier=1.0, expected_units=40.0, sites=sites)
        except ConfigError:
            return True
        return False

    assert refused(clip_norm) == refused(1.0)


@pytest.mark.parametrize("values", [np.zeros(3, np.int64), np.zeros(3, np.float32), np.zeros((2, 2), np.int32)])
def test_other_shapes_and_types_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        to_words(values, 3)
    with pytest.raises(ShapeError):
        from_words(values)


@pytest.mark.parametrize("length", [0, 1, 4, 6])
def test_a_vector_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match="20 are due"):
        words_from_bytes(bytes(4 * length), 5)


# -- the exchange and the mean -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data())
def test_the_aggregate_is_the_exact_weighted_mean(data: st.DataObject) -> None:
    """Any survivors in any order: Σ words is exact in integers, and Δ = γ Σ words / Σ L."""
    sites = NAMES[: data.draw(st.integers(3, 12))]
    survivors = data.draw(st.permutations(sites))[: data.draw(st.integers(3, len(sites)))]
    length = data.draw(st.integers(1, 6))
    draws = {
        site: data.draw(st.lists(st.integers(-limit(len(sites)), limit(len(sites))), min_size=length, max_size=length)) for site in sites
    }
    units = {site: data.draw(st.floats(0.5, 500)) for site in sites}
    exchange = PlainCoordinator(context(sites), length, 3)
    for site in survivors:
        _, reply = PlainSite().reply(
            context(sites), "update", b"", b"", lambda site=site: to_words(np.array(draws[site], np.int32), len(sites))
        )
        exchange.receive(site, reply)
    exchange.close_phase()
    summed = exchange.result()
    exact = [sum(draws[site][i] for site in survivors) for i in range(length)]
    assert summed.words.tolist() == exact
    assert summed.survivors == tuple(sorted(survivors))
    grid = grid_step(0.7)
    weight = sum(units[site] for site in survivors)
    np.testing.assert_allclose(mean_direction(summed, grid, units), [e * grid / weight for e in exact], rtol=1e-14)


def test_the_exchange_refuses_what_does_not_belong() -> None:
    exchange = PlainCoordinator(context(NAMES[:3]), 2, 3)
    with pytest.raises(ProtocolError, match="does not take part"):
        exchange.receive("site-07", bytes(8))
    exchange.receive("site-00", bytes(8))
    with pytest.raises(ProtocolError, match="answered twice"):
        exchange.receive("site-00", bytes(8))
    with pytest.raises(ProtocolError, match="12 bytes arrived where 8 are due"):
        exchange.receive("site-01", bytes(12))
    with pytest.raises(ProtocolError, match="after its last phase"):
        exchange.result()
    with pytest.raises(TooFewSurvivors, match="1 of 3 sites answered round 0 of `sft`, and the study needs 3"):
        exchange.close_phase()
    open_phase = exchange.requests()
    assert open_phase is not None
    assert set(open_phase.requests) == {"site-01", "site-02"}, "only the missing are asked again"


@pytest.mark.parametrize(("phase", "request_", "state"), [("shares", b"", b""), ("update", b"x", b""), ("update", b"", b"x")])
def test_the_plain_site_trains_for_nothing_else(phase: str, request_: bytes, state: bytes) -> None:
    def trained() -> np.ndarray:
        raise AssertionError("nothing may be trained")

    with pytest.raises(ProtocolError, match="one phase, `update`"):
        PlainSite().reply(context(NAMES[:3]), phase, request_, state, trained)


def test_an_unknown_exchange_is_refused() -> None:
    with pytest.raises(ProtocolError, match="there is no exchange `open`; this version speaks plain, masked"):
        site_exchange("open", lambda: pytest.fail("nobody's keys are needed to say so"))


# -- the optimizer -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1))
def test_sgd_is_linear_and_without_momentum_is_the_plain_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(SPEC.size(0))
    training = TrainingConfig(server_optimizer="sgd", server_learning_rate=0.5, server_momentum=0.0)
    adapter, _ = step(training, 0, SPEC.initial(), direction, {})
    np.testing.assert_allclose(adapter.vector(0), SPEC.initial().vector(0) + 0.5 * direction, rtol=1e-6, atol=1e-7)


@given(st.floats(1e-4, 1e6))
def test_the_first_adam_step_does_not_depend_on_the_scale(scale: float) -> None:
    direction = np.linspace(-1, 1, SPEC.size(0)) * scale
    adapter, _ = step(TrainingConfig(server_learning_rate=0.1), 0, SPEC.initial(), direction, {})
    moved = adapter.vector(0) - SPEC.initial().vector(0)
    np.testing.assert_allclose(moved[direction != 0], 0.1 * np.sign(direction[direction != 0]), rtol=0.12)


def test_warmup_grows_to_the_full_rate() -> None:
    training = TrainingConfig(server_optimizer="sgd", server_learning_rate=1.0, server_momentum=0.0, warmup_rounds=4)
    ones = np.ones(SPEC.size(0))
    moves = [float((step(training, n, SPEC.initial(), ones, {})[0].vector(0) - SPEC.initial().vector(0))[0]) for n in range(6)]
    assert moves == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_frozen_factors_stay_bit_for_bit() -> None:
    adapter, _ = step(TrainingConfig(), 0, SPEC.initial(), np.ones(SPEC.size(0)), {})
    for name, tensor in adapter.tensors.items():
        assert (".lora_A." in name) == np.array_equal(tensor, SPEC.initial().tensors[name])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_refused(bad: float) -> None:
    direction = np.ones(SPEC.size(0))
    direction[3] = bad
    with pytest.raises(NotFinite):
        step(TrainingConfig(), 0, SPEC.initial(), direction, {})
    with pytest.raises(ShapeError, match="trains 28 numbers"):
        step(TrainingConfig(), 0, SPEC.initial(), np.ones(5), {})


def test_a_mean_of_integers_is_exact_in_floats() -> None:
    summed = Summed(np.array([2**52, -(2**52), 3], np.int64), ("a",))
    assert to_floats(summed.words, 2.0**-16).tolist() == [2.0**36, -(2.0**36), 3 * 2.0**-16]


# -- cohorts -----------------------------------------------------------------------------------------------------------


@given(st.sets(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), min_size=3, max_size=40), st.integers(1, 8), st.integers(0, 2**31))
def test_cohorts_are_disjoint_complete_and_fair(sites: set[str], members: int, seed: int) -> None:
    if len(sites) // members < 3:
        with pytest.raises(ConfigError, match="each cohort needs at least 3"):
            deal(sorted(sites), members, seed)
        return
    cohorts = deal(sorted(sites), members, seed)
    assert sorted(site for cohort in cohorts for site in cohort) == sorted(sites)
    assert max(map(len, cohorts)) - min(map(len, cohorts)) <= 1
    assert deal(sorted(sites, reverse=True), members, seed) == cohorts, "the order of arrival does not matter"


def test_another_seed_deals_other_cohorts() -> None:
    assert len({deal(NAMES, 2, seed) for seed in range(20)}) > 10
