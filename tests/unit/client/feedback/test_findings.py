"""What choices tell of annotators: a side, haste, circles."""

from dataclasses import replace

import pytest

from client.feedback.findings import circles, position_bias, speeds
from client.feedback.items import Candidate, Choice, Item, Verdict
from common.events import Handle
from tests.helpers.labelling import questions


def choice(item: Item, chosen: int, order: tuple[int, ...] = (0, 1), seconds: float = 20.0) -> Choice:
    return Choice(item.item_id, "dr", order, Verdict.ANSWER, chosen, seconds, "2026-01-01T00:00:00+00:00", 1)


def test_position_bias() -> None:
    items = questions(40)
    fair = [choice(item, n % 2, (0, 1) if n % 4 < 2 else (1, 0)) for n, item in enumerate(items)]
    sided = [choice(item, (0, 1)[n % 2], ((0, 1), (1, 0))[n % 2]) for n, item in enumerate(items)]
    assert position_bias(fair).share == 0.5
    assert not position_bias(fair).stands_out
    assert (position_bias(sided).first, position_bias(sided).stands_out) == (40, True)
    assert position_bias([]).share is None


def test_haste() -> None:
    items = {item.item_id: item for item in questions(20)}
    calm, quick = ([choice(item, 0, seconds=s) for item in items.values()] for s in (25.0, 1.0))
    found = speeds({"a": calm, "b": [replace(c, seconds=28) for c in calm], "c": [replace(c, seconds=24) for c in calm], "d": quick}, items)
    assert (found["d"].too_fast, found["d"].stands_out) == (20, True)
    assert [found[who].stands_out for who in "abc"] == [False] * 3
    assert found["d"].score is not None


@pytest.mark.parametrize(
    ("wins", "told"),
    [([("x", "y"), ("y", "z"), ("z", "x")], (1, 1)), ([("x", "y"), ("y", "z"), ("x", "z")], (1, 0)), ([("x", "y")], (0, 0))],
)
def test_circles(wins: list[tuple[str, str]], told: tuple[int, int]) -> None:
    items = [Item(Handle.draw(), "one prompt", (Candidate(a, "s"), Candidate(b, "s"))) for a, b in wins]
    found = circles([choice(item, 0) for item in items], {item.item_id: item for item in items})
    assert (found.triples, found.circular) == told
