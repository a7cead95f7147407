"""New questions from the hospital's own prompts: behind the gate, where the members disagree, never twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.feedback.candidates import ask, margins, released_prompts, sample
from client.feedback.items import Origin
from client.feedback.settings import LabelSettings
from client.hospital.site import Site
from client.records import CleanNote, Dialogue
from common.bases import load_base
from common.config import AdapterConfig, ModelConfig
from common.errors import ConfigError, GateRefused
from common.models import SharedBase
from common.progress import Silent
from tests.helpers.sites import sign

MODEL = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=48, max_answer_tokens=12)


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_base("tiny", "float32")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site.create(tmp_path / "north", "north", simulated_seed=1) as site:
        site.vault.put_notes(CleanNote(f"n{p}", f"p{p}", "text", dialogues=(Dialogue(f"May I take item {p}?", "Yes."),)) for p in range(5))
        yield site


def test_no_prompt_without_the_gates_token(site: Site) -> None:
    with pytest.raises(GateRefused):
        released_prompts(site, [], 10)
    sign(site)
    assert len(released_prompts(site, [], 10)) == 5
    assert len(released_prompts(site, [], 3)) == 3


def test_sampling_is_repeatable_and_left_padding_changes_nothing(base: SharedBase) -> None:
    prompts = ["short", "a much longer prompt about a headache", "May I?"]
    assert sample(base, None, prompts, MODEL, temperature=1.0, seed=3) == sample(base, None, prompts, MODEL, temperature=1.0, seed=3)
    assert sample(base, None, prompts, MODEL, temperature=1.0, seed=3) != sample(base, None, prompts, MODEL, temperature=1.0, seed=4)


def test_members_judge_both_answers(base: SharedBase, tmp_path: Path) -> None:
    adapter = base.spec(AdapterConfig(rank=2), head=True).initial()
    adapter.tensors[next(t.name for t in adapter.spec.tensors if t.name.endswith("score.weight") or "score" in t.name)][:] = 1.0
    base.put("judge", adapter)
    (there,), (back,) = margins(base, ["judge"], "p", "one", "two", MODEL), margins(base, ["judge"], "p", "two", "one", MODEL)
    assert there == pytest.approx(-back)
    assert there != 0


def test_questions_come_from_new_prompts_for_a_stated_reason(site: Site, base: SharedBase) -> None:
    sign(site)
    settings = LabelSettings()
    done = ask(site, base, [], [], [], settings, MODEL, answers=2, most=9, temperature=1.0, progress=Silent())
    assert done.prompts == 5
    assert done.by_disagreement == 0
    assert {item.origin for item in done.items.items} <= {Origin.RANDOM}
    assert len(done.items.items) + done.items.left_aside + done.alike == 5
    again = released_prompts(site, done.items.items, 9)
    assert {p.patient_id for p in again}.isdisjoint({item.patient_id for item in done.items.items})


def test_one_member_and_a_wrong_adapter_are_refused(site: Site, base: SharedBase, tmp_path: Path) -> None:
    sign(site)
    base.spec(AdapterConfig(rank=2)).initial().save(tmp_path / "policy")
    for members in ([tmp_path / "policy"], [tmp_path / "policy"] * 2):
        with pytest.raises(ConfigError, match=r"disagrees with itself|not a reward member"):
            ask(site, base, [], members, [], LabelSettings(), MODEL, answers=2, most=9, temperature=1.0, progress=Silent())
