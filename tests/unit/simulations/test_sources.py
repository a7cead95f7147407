"""The contract of a `Source`, which every member passes."""

import pickle
from pathlib import Path

import pytest

from client.intake.jsonl import read_jsonl
from common.config import EvaluationConfig, SimulationConfig, StudyConfig
from simulations.sources.datasets import PublicSource
from simulations.sources.source import Source
from simulations.sources.synthetic import SyntheticSource

CONFIG = StudyConfig(
    seed=2,
    simulation=SimulationConfig(hospitals=6, patients=5, pairs=12, canaries=2),
    evaluation=EvaluationConfig(reward_pairs=20, prompts=10),
)


@pytest.fixture(scope="module", params=["synthetic", pytest.param("public", marks=pytest.mark.data)])
def source(request: pytest.FixtureRequest) -> Source:
    if request.param == "synthetic":
        return SyntheticSource(CONFIG)
    return PublicSource(CONFIG, request.getfixturevalue("shared_data"))


@pytest.fixture(scope="module")
def candidates(source: Source) -> dict[str, str]:
    return {asked.id: f"Answer {n}: drink water and see a doctor if it lasts." for n, asked in enumerate(source.to_sample())}


def test_a_source_can_go_to_another_process(source: Source) -> None:
    copy = pickle.loads(pickle.dumps(source))
    assert copy.sites() == source.sites()
    assert copy.evaluation_prompts(3) == source.evaluation_prompts(3)


def test_sites_have_names_that_a_site_may_have(source: Source) -> None:
    names = source.sites()
    assert len(names) == len(set(names)) == 6
    assert all(name == name.lower() and "_" not in name for name in names)


def test_exports_can_be_read_and_hold_what_is_planted(source: Source, tmp_path: Path) -> None:
    texts = ""
    for number in range(6):
        source.write_export(number, tmp_path / str(number))
        export = read_jsonl(tmp_path / str(number))
        notes = list(export.notes)
        assert 0 < len({n.patient_id for n in notes}) <= 5
        assert {n.patient_id for n in notes} <= {r.patient_id for r in export.records}
        assert all(n.dialogues for n in notes)
        texts += "\n".join(n.text for n in notes)
    canaries = [p.value for p in source.planted() if p.kind == "canary"]
    assert len(canaries) == len(set(canaries)) == 12
    assert all(c in texts for c in canaries)


def test_preferences_belong_to_the_site_s_patients_and_repeat(source: Source, candidates: dict[str, str]) -> None:
    patients = [f"p{n}" for n in range(5)]
    seen: set[str] = set()
    for number in range(6):
        chosen = source.preferences(number, patients, candidates)
        assert chosen == source.preferences(number, patients, candidates)
        assert {p.patient_id for p in chosen} <= set(patients)
        ids = {p.pair_id for p in chosen}
        assert len(ids) == len(chosen) > 0
        assert not ids & seen
        seen |= ids
        assert all(p.chosen != p.rejected for p in chosen)
    assert len(source.training_triples(candidates)) == len(seen)


def test_splits_do_not_meet(source: Source, candidates: dict[str, str]) -> None:
    labelled = {prompt for prompt, _, _ in source.training_triples(candidates)}
    judged = {p.prompt for p in source.judged_pairs(candidates)}
    held_out = set(source.evaluation_prompts(10))
    ppo = set(source.ppo_prompts())
    public = {p.prompt for p in source.pretraining_pairs(50)}
    for one, other in ((labelled, judged), (labelled, held_out), (ppo, held_out), (ppo, judged), (public, held_out), (public, judged)):
        assert one
        assert not one & other


def test_the_judge_is_a_number_and_knows_nonsense(source: Source) -> None:
    prompts = source.evaluation_prompts(10)
    assert len(prompts) == 10
    for index in range(10):
        assert source.judge(index, "zzz qqq vvv") <= 0.5
        assert source.judge(index, prompts[index]) == source.judge(index, prompts[index])
    assert source.judge_name


def test_examples_and_groups(source: Source, candidates: dict[str, str]) -> None:
    assert len(source.examples(6)) == 6
    judged = source.judged_pairs(candidates)
    assert len({frozenset(p.groups) for p in judged}) == 1, "every pair names the same groups"
    assert all(p.groups["on_policy"] in {"yes", "no"} for p in judged)
