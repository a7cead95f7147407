import os
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from client.intake.jsonl import read_jsonl
from common.config import SimulationConfig, StudyConfig
from common.errors import ConfigError
from simulations.judgement.baselines import baselines
from simulations.sources.datasets import PublicSource
from simulations.sources.public_sets import PublicSets, trimmed
from tests.helpers.public_sets import SITES, medquad, write, write_sets


def config(hospitals: int = 3, **given: Any) -> StudyConfig:
    return StudyConfig(
        seed=3, simulation=SimulationConfig(source="public", hospitals=hospitals, patients=4, canaries=1, **given),
        reward={"members": 1}, ppo={"variance_penalty": 0},
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def source(data: Path) -> PublicSource:
    return PublicSource(config(), data)


def test_sites_and_exports(source: PublicSource, tmp_path: Path) -> None:
    assert source.sites() == list(SITES)
    source.write_export(1, tmp_path)
    export = read_jsonl(tmp_path)
    notes = list(export.notes)
    assert len({n.patient_id for n in notes}) == 4, "at most `patients` source pages"
    assert len(notes) == 16
    assert all(n.patient_id.startswith("train-beta") for n in notes)
    (secret,) = (p.value for p in source.planted() if any(p.value in n.text for n in notes))
    assert sum(secret in n.text for n in notes) == sum(secret in n.dialogues[0].prompt for n in notes) == 1
    assert all("? ?" not in n.text for n in notes)


def test_a_source_can_go_to_another_process(source: PublicSource) -> None:
    copy = pickle.loads(pickle.dumps(source))
    assert copy.judged_pairs({}) == source.judged_pairs({})
    assert copy.evaluation_prompts(3) == source.evaluation_prompts(3)


def test_examples_are_of_topics_that_no_site_has(source: PublicSource) -> None:
    examples = source.examples(10)
    assert len(examples) == 10
    assert examples == source.examples(10)
    trained = {row["question"] for row in source.sets.medquad("train")} - {row["question"] for row in source.sets.medquad("valid")}
    assert not {e.prompt for e in examples} & trained


def test_pairs_are_dealt_by_question_and_held_out_by_question(source: PublicSource) -> None:
    dealt = [source.preferences(n, ("p1", "p2"), {}) for n in range(3)]
    prompts = [{p.prompt for p in site} for site in dealt]
    held_out = {p.prompt for p in source.judged_pairs({})}
    assert sum(map(len, prompts)) == 8, "ten questions, two of them held out"
    assert len(set().union(*prompts)) == 8
    assert not held_out & set().union(*prompts)
    assert len(held_out) == 2 + 2
    # the same question in both sets is one question: its four pairs are together, and one patient's
    for site in dealt:
        by_question = Counter(p.prompt for p in site)
        assert set(by_question.values()) == {4}
        assert len({(p.prompt, p.patient_id) for p in site}) == len(by_question)
    assert len(source.training_triples({})) == 32
    assert source.to_sample() == []


def test_public_pairs_hold_nothing_that_an_expert_graded(source: PublicSource, data: Path, tmp_path: Path) -> None:
    made = source.pretraining_pairs(60)
    assert made == source.pretraining_pairs(60)
    assert len(made) == 60
    shutil.copytree(data, tmp_path / "data")
    first, *_, last = source._public_rows(60)
    graded = {"id": "1", "prompt": first["question"], "chosen": "Something else entirely.", "rejected": "Bad."}
    answer = {"id": "2", "prompt": "Another question?", "chosen": last["answer"], "rejected": "Bad."}
    write(tmp_path / "data/pref_medquad_judged/pairs_valid.jsonl", [graded, answer])
    again = PublicSource(config(), tmp_path / "data")
    assert not {first["question"], last["question"]} & {row["question"] for row in again._public_rows(60)}
    assert answer["chosen"] not in {text for pair in again.pretraining_pairs(60) for text in (pair.chosen, pair.rejected)}
    judged = again.judge_pairs(20)
    assert not set(judged) & set(again.pretraining_pairs(again.config.reward.pretraining.pairs))


def test_prompts_and_judge(source: PublicSource) -> None:
    assert len(source.ppo_prompts()) == 5
    prompts = source.evaluation_prompts(10)
    assert prompts[0] == "Tell me of valid disease 0."
    assert len(prompts) == 10
    right, wrong = "Disease 0 needs rest and water.", "Unrelated words entirely."
    assert source.judge(0, right) == pytest.approx(1.0)
    assert source.judge(0, wrong) == pytest.approx(-0.5)
    assert source.judge(0, "Nothing of that.") == 0
    assert source.judge(0, "") == 0


def test_refusals_name_what_is_missing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        PublicSource(config(), tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"is 4, but MedQuAD has 3 sites here; set it to 3 or less"):
        PublicSource(config(4), data)
    with pytest.raises(ConfigError, match=r"medquad/train.jsonl: there is no such file, and .*sources.toml names no Hub id for `medquad`"):
        PublicSource(config(), tmp_path)
    write(tmp_path / "medquad/train.jsonl", [{"id": "1", "site": "a"}])
    with pytest.raises(ConfigError, match=r"train.jsonl: column `doc_id` is missing"):
        PublicSource(config(), tmp_path)
    write(tmp_path / "medquad/train.jsonl", [*medquad("train", 1), {**medquad("train", 1)[0], "focus": None}])
    with pytest.raises(ConfigError, match=r"row 13: `focus` is empty"):
        PublicSource(config(), tmp_path)
    (tmp_path / "medquad/train.jsonl").write_text('{"id": 1}\nnot json with a secret\n')
    with pytest.raises(ConfigError, match=r"train.jsonl, line 2: not a JSON object") as caught:
        PublicSource(config(), tmp_path)
    assert "secret" not in str(caught.value)
    (tmp_path / "sources.toml").write_text("[hub]\nmedquad = 3\n")
    with pytest.raises(ConfigError, match=r"sources.toml: \[hub\] names sets"):
        PublicSets(tmp_path)
    (tmp_path / "sources.toml").write_text("hub = [")
    with pytest.raises(ConfigError, match=r"sources.toml: cannot be read"):
        PublicSets(tmp_path)


def test_a_set_of_the_hub_is_read_by_its_own_column_names(tmp_path: Path) -> None:
    """`datasets` takes a folder where it takes a Hub id, so the same call is tested without a network."""
    rows = [
        {
            "question_id": str(n), "document_source": "MPlusHealthTopics", "document_id": f"d{n // 2}", "question_focus": f"topic {n // 2}",
            "question_type": "information", "question": "What is it ?", "answer": "It is  a thing " + "that is told at some length. " * 3 if n else None,
        }
        for n in range(60)
    ]  # fmt: skip
    write(tmp_path / "hub/train.jsonl", rows)
    (tmp_path / "sources.toml").write_text(f'[hub]\nmedquad = "{tmp_path / "hub"}"\nkqa_prompts = "{tmp_path / "hub"}"\n')
    sets = PublicSets(tmp_path)
    train, valid = sets.medquad("train"), sets.medquad("valid")
    assert len(train) + len(valid) == 59, "an answer that is missing or too short is left out"
    assert train[0]["site"] == "mplus_health_topics"
    assert train[0]["question"] == "What is it?"
    assert not {r["focus"] for r in train} & {r["focus"] for r in valid}
    assert len(valid) > 0
    with pytest.raises(ConfigError, match="cannot be read as a data set"):
        sets.rows("kqa_prompts", "prompts", ("question",))  # the Hub set has no such file
    assert len(sets.rows("kqa_prompts", "train", ("question",))) == 60


def test_trimmed() -> None:
    assert trimmed("One. Two. Three.", 100) == "One. Two. Three."
    assert trimmed("One. Two. Three.", 10) == "One. Two."
    assert trimmed("A sentence that is far too long to fit", 12) == "A sentence."


@pytest.mark.data
def test_the_real_sets(shared_data: Path, tmp_path: Path) -> None:
    source = PublicSource(config(9), shared_data)
    assert source.sites()[0] == "cancergov"
    assert len(source.sites()) == 9
    source.write_export(8, tmp_path)
    assert len({n.patient_id for n in read_jsonl(tmp_path).notes}) == 4
    triples = source.training_triples({})
    judged = source.judged_pairs({})
    assert len(triples) + len(judged) >= 600
    assert not {t[0] for t in triples} & {p.prompt for p in judged}
    assert len({p.prompt for p in judged}) >= 30
    assert len(source.evaluation_prompts(96)) == 96
    assert len(source.ppo_prompts()) > 900
    found = baselines(triples, [(p.prompt, p.better, p.worse) for p in judged])
    assert 0.5 < found.overlap[1] < 0.8, found


@pytest.mark.skipif(
    not os.environ.get("WARDROUND_HUB"), reason="reads from the Hugging Face Hub; set WARDROUND_HUB=1 where it can be reached"
)
def test_medquad_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "sources.toml").write_text('[hub]\nmedquad = "lavita/MedQuAD"\n')
    assert len({row["site"] for row in PublicSets(tmp_path).medquad("train")}) == 9
