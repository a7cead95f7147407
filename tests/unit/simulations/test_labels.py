"""The simulated study of labels: repeatable, learning something, by the product's own rules."""

from simulations.trials.labels import selection, weighting


def test_weighting_is_repeatable_and_learns() -> None:
    found = weighting(3, pairs=80, tested=80)
    assert found == weighting(3, pairs=80, tested=80)
    assert 160 <= found.votes <= 240
    assert min(found.raw, found.settled, found.weighted) > 0.55


def test_both_ways_of_asking_start_from_the_same_labels() -> None:
    found = selection(3, pool=90, first=30, step=20, most=70, members=2, tested=60)
    assert found.labels == [30, 50, 70]
    assert found.random[0] == found.active[0]
