"""Which reward member learns what: the aspects of a study go round its members."""

import pytest
from pydantic import ValidationError

from common.config import RewardConfig


def test_members_take_the_aspects_in_turn() -> None:
    reward = RewardConfig(members=3, aspects=("overall", "safety"))
    assert [reward.aspect(member) for member in (None, 0, 1, 2)] == ["overall", "overall", "safety", "overall"]
    assert RewardConfig().aspect(1) == "overall"


@pytest.mark.parametrize("wrong", [{"aspects": ()}, {"aspects": ("colour",)}, {"tie_margin": -0.1}])
def test_what_cannot_be_learned_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RewardConfig.model_validate(wrong)
