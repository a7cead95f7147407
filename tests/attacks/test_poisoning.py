"""Poisoned updates: how far one or two sites of nine can turn the model under each aggregation, and what group scores catch under masks.

`aligned` is the share of the honest mean that is left: ⟨direction, honest mean⟩ / |honest mean|². 1 is untouched, 0 is nothing learned, below 0
is unlearning. The honest updates differ by site and carry their own noise, as they do under placement `site`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.config import SecureConfig, StudyConfig
from common.errors import ConfigError, TooFewSurvivors
from common.secure.fixedpoint import Integers
from common.secure.masked.coordinator import MaskedExchange
from server.federate.checkpoint import RoundState
from server.federate.robust import KeepingExchange, robust_direction
from server.federate.rounds import federate
from server.federate.scoring import OUTLIER, kept_groups
from simulations.machine.grid import LocalGrid, identity
from tests.helpers.federation import federation, post, site_folders, study, toy_app, toy_roster

SITES = tuple(f"site-{i}" for i in range(9))
GRID, UNITS, DIMENSIONS = 2.0**-16, 9.0, 4000
HONEST = np.random.default_rng(1).standard_normal(DIMENSIONS) * 0.05


def honest(seed: int, spread: float = 0.1) -> np.ndarray:
    """A site's mean update: what all learn, what it alone learns, and its noise."""
    return HONEST + spread * np.random.default_rng(100 + seed).standard_normal(DIMENSIONS)


def flipped(updates: np.ndarray) -> np.ndarray:
    return -updates.mean(axis=0)


def boosted(updates: np.ndarray) -> np.ndarray:
    return -20 * updates.mean(axis=0)


def loud_noise(updates: np.ndarray) -> np.ndarray:
    return 5 * np.random.default_rng(9).standard_normal(DIMENSIONS)


def within_the_spread(updates: np.ndarray) -> np.ndarray:
    """Just inside what honest sites might send (Baruch et al. 2019, "A little is enough")."""
    return updates.mean(axis=0) - 0.5 * np.sign(HONEST) * updates.std(axis=0)


ATTACKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flipped": flipped, "flipped, 20 times": boosted, "loud noise": loud_noise, "within the spread": within_the_spread,
}  # fmt: skip


def aligned(aggregation: str, attack: str, poisoned: int = 1) -> tuple[float, float]:
    """(aligned share, distance of the direction from the honest mean divided by its length)."""
    rows = np.stack([honest(i) for i in range(len(SITES))])
    rows[:poisoned] = ATTACKS[attack](rows[poisoned:])
    mean = rows[poisoned:].mean(axis=0)
    words: dict[str, Integers] = {site: np.rint(row * UNITS / GRID).astype(np.int32) for site, row in zip(SITES, rows, strict=True)}
    units = dict.fromkeys(SITES, UNITS)
    if aggregation == "mean":
        direction = sum(w.astype(np.int64) for w in words.values()) * GRID / (UNITS * len(SITES))
    else:
        direction = robust_direction(SecureConfig(exchange="plain", aggregation=aggregation, suspected_sites=poisoned), words, GRID, units)
    return float(direction @ mean / (mean @ mean)), float(np.linalg.norm(direction - mean) / np.linalg.norm(mean))


def test_what_each_aggregation_makes_of_each_attack(capsys: pytest.CaptureFixture[str]) -> None:
    """The table that the README quotes."""
    table = {(a, k): aligned(a, k) for a in ("mean", "trimmed-mean", "krum") for k in ATTACKS}
    with capsys.disabled():
        print("\naligned share (distance) with one poisoned site of nine")  # noqa: T201  # the table that the README quotes
        for kind in ATTACKS:
            cells = (f"{a} {table[a, kind][0]:+.2f} ({table[a, kind][1]:.2f})" for a in ("mean", "trimmed-mean", "krum"))
            print(f"  {kind:18s}", *cells)  # noqa: T201  # as above
    # The twin without a robust aggregator: one site turns the model round, or drowns it.
    assert table["mean", "flipped, 20 times"][0] < -1
    assert table["mean", "loud noise"][1] > 3
    for aggregation in ("trimmed-mean", "krum"):
        for kind in ("flipped", "flipped, 20 times", "loud noise"):
            assert table[aggregation, kind][0] > 0.6, (aggregation, kind)
    assert table["trimmed-mean", "loud noise"][1] < 1
    # Krum takes one site's update with all of its noise: the price of believing a single site.
    assert table["krum", "flipped"][1] > 1.5 * table["trimmed-mean", "flipped"][1]


def test_what_stays_within_the_spread_is_not_caught() -> None:
    """Not a defence: the poisoned update is not told from the honest ones, and moves every aggregation about as much as it moves the mean."""
    plain, trimmed = (aligned(a, "within the spread", 2)[0] for a in ("mean", "trimmed-mean"))
    assert plain < 0.97
    assert trimmed < 0.97
    assert trimmed < plain + 0.1


def test_too_few_sites_for_a_promise_are_refused() -> None:
    words = {site: np.zeros(3, np.int32) for site in SITES[:4]}
    with pytest.raises(TooFewSurvivors, match="4 sites sent updates, and `krum` against 1 poisoned ones needs 5"):
        robust_direction(SecureConfig(exchange="plain", aggregation="krum"), words, GRID, dict.fromkeys(SITES, UNITS))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"secure": {"exchange": "masked", "aggregation": "krum"}}, 'it needs `secure.exchange = "plain"`'),
        ({"secure": {"exchange": "plain", "aggregation": "trimmed-mean"}, "privacy": {"placement": "sum"}}, '`privacy.placement = "site"`'),
        ({"secure": {"exchange": "plain", "aggregation": "krum", "suspected_sites": 4}}, "poisoned sites takes 11"),
        ({"secure": {"drop_groups": True}}, "compares three masked groups at least"),
        ({"secure": {"group_size": 3}, "privacy": {"placement": "sum"}}, "sizes the noise for one sum over all sites"),
    ],
)
def test_a_study_that_would_look_behind_masks_is_refused(changes: dict[str, object], reason: str) -> None:
    tree = {"simulation": {"hospitals": 9}, "reward": {"members": 1}, "ppo": {"variance_penalty": 0.0}, **changes}
    with pytest.raises((ValueError, ConfigError), match=reason):
        StudyConfig.model_validate(tree)


# -- under masks -------------------------------------------------------------------------------------------------------

TWELVE = tuple(f"site-{i:02d}" for i in range(12))
POISONED = "site-05"


def towards(site: str, number: int, size: int) -> Integers:
    """Honest sites push every number up; one pushes it down, ten times as hard."""
    rng = np.random.default_rng(int(site[-2:]))
    up = rng.integers(50_000, 150_000, size)
    return (-10 * up if site == POISONED else up).astype(np.int32)


def masked_study(**secure: object) -> StudyConfig:
    tree = study(hospitals=12, rounds=1, server_optimizer="sgd", server_momentum=0.0).model_dump(mode="json")
    return StudyConfig.model_validate({**tree, "secure": {"exchange": "masked", "group_size": 3, **secure}})


def run(path: Path, config: StudyConfig, **fields: object) -> RoundState:
    plan = federation(config, TWELVE, exchange=MaskedExchange(toy_roster(TWELVE)), **fields)
    grid = LocalGrid(toy_app(towards, all_sites=TWELVE), site_folders(path, TWELVE))
    with identity():
        return federate(plan, post(grid, TWELVE), path / "state.safetensors")


def test_a_group_that_harms_public_examples_is_left_out(tmp_path: Path) -> None:
    """Groups of three under masks: the coordinator never sees site-05's update, but the sum it spoiled."""
    config = masked_study(drop_groups=True)
    watched = run(tmp_path / "watched", config, score=lambda adapter: -float(adapter.vector(0).mean()))
    (record,) = watched.records
    assert len(record.missing) == 3
    assert POISONED in record.missing
    assert set(record.missing.values()) == {OUTLIER}
    assert len(record.survivors) == 9
    # The twin adds everything up.
    twin = run(tmp_path / "twin", masked_study())
    assert len(twin.records[0].survivors) == 12
    gain = [float(state.adapter.vector(0).mean()) for state in (watched, twin)]
    assert gain[0] > 3 * abs(gain[1])


def test_groups_that_agree_stay() -> None:
    assert kept_groups([2.0, 2.01, 1.99, 2.0]) == [True] * 4
    assert kept_groups([2.0, 2.0, 2.0, 2.0]) == [True] * 4
    assert kept_groups([2.0, 2.01, 9.0]) == [True, True, False]
    assert kept_groups([2.0, float("inf"), 2.01, 1.99]) == [True, False, True, True]
    assert kept_groups([2.0, 9.0]) == [True, True], "two groups cannot outvote each other"


def test_the_exchange_of_a_robust_aggregator_calls_itself_plain() -> None:
    assert (KeepingExchange.name, KeepingExchange.hides_updates) == ("plain", False)
