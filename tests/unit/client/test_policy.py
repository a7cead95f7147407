from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.hospital.policy import HospitalPolicy, Request, load_policy
from common.config import Engine, Stage, StudyConfig
from common.errors import ConfigError, PolicyRefused
from common.privacy.mechanism import Placement, Unit

STUDY = StudyConfig()
REQUEST = Request.of(STUDY, Stage.SFT, sites=8)


def test_the_default_study_is_within_the_default_policy() -> None:
    HospitalPolicy().admit(REQUEST)
    HospitalPolicy().admit(Request.of(STUDY, Stage.REWARD, sites=4))


@pytest.mark.parametrize(
    ("change", "policy", "said"),
    [
        ({"epsilon": 9.0}, {}, "epsilon 9 is above this hospital's 8"),
        ({"delta": 1e-5}, {}, "delta 1e-05 is above"),
        ({"sites": 2}, {}, "2 sites take part, below this hospital's 3"),
        ({"sites": 4}, {"min_sites": 5}, "below this hospital's 5"),
        ({"rounds": 50, "local_steps": 3}, {"max_steps": 100}, "150 steps are above this hospital's 100"),
        ({"stage": Stage.REWARD}, {"allowed_stages": ("sft",)}, "not among sft"),
        ({"unit": Unit.SITE}, {}, "the unit of protection is site"),
        ({"placement": Placement.SUM}, {}, "placement sum is not one of site"),
        ({"unit": Unit.RECORD}, {}, "the unit of protection is record, not one of patient"),
        ({"exchange": "plain"}, {}, "by the exchange plain, not by masked"),
        ({"base": "tiny"}, {"allowed_bases": ("smollm2-135m-instruct",)}, "base model tiny is not one of smollm2-135m-instruct"),
        (
            {"base": "somebody/weights"},
            {},
            "base model somebody/weights is not one of smollm2-135m-instruct, tiny; the hospital may add it",
        ),
        ({"base": "/etc/models"}, {"allowed_bases": ()}, "not one of nothing: the list is empty"),
        ({"study_id": "elsewhere"}, {"allowed_studies": ()}, "the list is empty"),
        ({"engine": Engine.NONE}, {}, "without privacy"),
    ],
)
def test_each_refusal_names_the_number_and_the_bound(change: dict[str, Any], policy: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyRefused) as caught:
        HospitalPolicy(**policy).admit(replace(REQUEST, **change))
    assert said in str(caught.value)


def test_a_hospital_may_allow_a_study_without_privacy_by_name_only() -> None:
    HospitalPolicy(allow_not_private=True).admit(replace(REQUEST, engine=Engine.NONE, epsilon=0.0))


def test_a_policy_cannot_be_looser_than_the_federation() -> None:
    for loose in ({"max_epsilon": 11}, {"min_sites": 2}, {"max_delta": 1e-3}):
        with pytest.raises(ValueError):
            HospitalPolicy(**loose)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_epsilonn = 3", "max_epsilonn"),
        ("max_epsilon = 0", "max_epsilon"),
        ("max_epsilon = ", "not valid TOML"),
        (None, "no such file"),
    ],
)
def test_a_policy_file_that_cannot_be_used_names_file_and_key(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "policy.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_the_example_policy_is_readable() -> None:
    assert load_policy(Path(__file__).parents[3] / "configs" / "hospital.example.toml").min_sites >= 3
