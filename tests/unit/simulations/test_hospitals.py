import json
import re
from collections import Counter
from pathlib import Path

import pytest

from client.hospital.site import POLICY_FILE, Site
from common.config import EvaluationConfig, PrivacyConfig, SimulationConfig, StudyConfig
from common.errors import ConfigError, GateRefused
from common.privacy.mechanism import Placement, Unit
from simulations.hospitals import EXPORT, admit_notes, label_pairs, make_hospitals, source_of
from simulations.judgement.baselines import baselines
from simulations.sources.source import Asked
from simulations.sources.synthetic import SHARED_QUESTIONS, SyntheticSource

CONFIG = StudyConfig(
    seed=5,
    simulation=SimulationConfig(hospitals=6, patients=4, pairs=20, workers=1, canaries=1),
    evaluation=EvaluationConfig(reward_pairs=40, prompts=12, sft_examples=8),
)


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(CONFIG)


@pytest.fixture(scope="module")
def candidates(source: SyntheticSource) -> dict[str, str]:
    answers = (
        "Rest and drink water. See your doctor if it lasts.",
        "Take ibuprofen, you will definitely be fine.",
        "It is hard to say what",
    )
    return {asked.id: answers[n % 3] for n, asked in enumerate(source.to_sample())}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def hospitals(source: SyntheticSource, workdir: Path) -> list[Site]:
    sites = make_hospitals(CONFIG, source, workdir)[:2]
    admit_notes(sites, source)
    return sites


def test_hospitals_are_real_sites_that_agree_to_this_study_alone(hospitals: list[Site]) -> None:
    site = hospitals[0]
    assert site.name == "hospital-1"
    assert site.vault.simulated
    assert site.declared_units(Unit.PATIENT) == CONFIG.simulation.declared_units
    assert site.policy.max_epsilon == CONFIG.privacy.epsilon
    assert site.policy.allowed_studies == (CONFIG.study_id,)
    assert not site.policy.allow_not_private


def test_nothing_planted_is_left_in_the_released_notes(hospitals: list[Site], source: SyntheticSource) -> None:
    planted = [p.value for p in source.planted()]
    assert len(planted) == 6 * (4 * 5 + 1)
    for site in hospitals:
        texts = [t for n in site.vault.notes() for t in (n.text, *(s for d in n.dialogues for s in (d.prompt, d.answer)))]
        assert len(texts) > 10
        for text in texts:
            assert not [value for value in planted if value in text]


def test_admitting_again_changes_nothing(hospitals: list[Site], source: SyntheticSource, workdir: Path) -> None:
    before = [site.vault.digest() for site in hospitals]
    admit_notes(hospitals, source)
    assert [site.vault.digest() for site in hospitals] == before
    opened = make_hospitals(CONFIG, source, workdir)
    assert opened[0].vault.digest() == before[0]


def test_a_hospital_whose_gate_refuses_stops_the_run(source: SyntheticSource, tmp_path: Path) -> None:
    sites = make_hospitals(CONFIG, source, tmp_path)[:1]
    policy = sites[0].folder / POLICY_FILE
    policy.write_text(re.sub(r"(?m)^max_leak_upper_bound.*$", "max_leak_upper_bound = 0.01", policy.read_text()))
    with pytest.raises(GateRefused, match=r"above this hospital's 0.01"):
        admit_notes(sites, source)


def test_labels_are_in_the_vault_of_the_patient_s_hospital(
    hospitals: list[Site], source: SyntheticSource, candidates: dict[str, str]
) -> None:
    assert label_pairs(hospitals, source, candidates) == 40
    assert label_pairs(hospitals, source, candidates) == 40  # again, after a kill: each replaces itself
    for site in hospitals:
        kept = list(site.vault.preferences())
        assert len(kept) == 20
        assert len({p.pair_id for p in kept}) == 20
        assert Counter(p.patient_id for p in kept) == dict.fromkeys((r.patient_id for r in site.vault.records()), 5)
        assert {p.annotator_id for p in kept} == {f"{site.name}-clinician-0", f"{site.name}-clinician-1"}
        sampled = set(candidates.values())
        for preference in kept:
            assert preference.on_policy == (preference.chosen in sampled or preference.rejected in sampled)
        assert 7 <= sum(p.on_policy for p in kept) <= 10
    first, second = (list(site.vault.preferences()) for site in hospitals)
    assert not {(p.chosen, p.rejected) for p in first} & {(p.chosen, p.rejected) for p in second}


def test_to_sample_is_bounded_and_named_once(source: SyntheticSource) -> None:
    asked = source.to_sample()
    assert len({a.id for a in asked}) == len(asked) == 6 * 10 + 20
    many = SyntheticSource(CONFIG.model_copy(update={"simulation": SimulationConfig(hospitals=50, pairs=90)}))
    assert len(many.to_sample()) == SHARED_QUESTIONS + 20
    none = SyntheticSource(CONFIG.model_copy(update={"simulation": SimulationConfig(hospitals=6, pairs=20, on_policy_share=0)}))
    assert none.to_sample() == []
    assert not any(p.on_policy for p in none.preferences(0, ("somebody",), {}))
    assert isinstance(asked[0], Asked)


def test_judged_pairs_tell_their_groups_and_shallow_baselines_their_accuracy(source: SyntheticSource, candidates: dict[str, str]) -> None:
    judged = source.judged_pairs(candidates)
    assert judged == source.judged_pairs(candidates)
    assert Counter(p.groups["on_policy"] for p in judged)["yes"] in range(14, 21)
    assert {"wrong drug", "no safety net", "on-policy"} <= {p.groups["fault"] for p in judged}
    triples = source.training_triples(candidates)
    assert len(triples) == 6 * 20
    found = baselines(triples, [(p.prompt, p.better, p.worse) for p in judged])
    assert found.best_on_test() < 0.75, found


def test_prompts_of_training_and_evaluation_are_apart(source: SyntheticSource) -> None:
    ppo, held_out = source.ppo_prompts(), source.evaluation_prompts(12)
    assert len(ppo) == len(set(ppo)) > 300
    assert len(held_out) == 12
    assert not set(ppo) & set(held_out)
    assert not set(held_out) & {p.prompt for p in source.pretraining_pairs(100)}


def test_the_judge_prefers_care_where_it_is_needed(source: SyntheticSource) -> None:
    flagged = [n for n, text in enumerate(source.evaluation_prompts(12)) if "Worse, " in text]
    assert flagged
    for index in flagged:
        assert source.judge(index, "Please go to the emergency department now.") > source.judge(
            index, "You will definitely be fine at home."
        )


def test_examples_are_of_nobody_in_the_study_and_de_identified(source: SyntheticSource) -> None:
    examples = source.examples(8)
    assert examples == source.examples(8)
    assert len(examples) == 8
    assert not any(re.search(r"\d{2}/\d{2}/\d{4}", e.prompt) for e in examples)


def test_gold_and_canaries_stay_beside_the_export(hospitals: list[Site], workdir: Path) -> None:
    folder = hospitals[0].folder / EXPORT
    assert json.loads((folder / "canaries.json").read_text())[0]["secret"].startswith("CANARY-")
    assert not (hospitals[0].folder / "gold.jsonl").exists()


def test_one_unit_has_one_declared_number(source: SyntheticSource, tmp_path: Path) -> None:
    simulation = CONFIG.simulation.model_copy(update={"declared_preference_units": 30})
    config = CONFIG.model_copy(update={"simulation": simulation})
    with pytest.raises(ConfigError, match=r"is 90 and .* 30, but both stages protect the patient"):
        make_hospitals(config, SyntheticSource(config), tmp_path)
    apart = config.model_copy(update={"privacy": PrivacyConfig(preference_unit=Unit.PAIR)})
    site = make_hospitals(apart, SyntheticSource(apart), tmp_path / "apart")[0]
    assert (site.declared_units(Unit.PATIENT), site.declared_units(Unit.PAIR)) == (90, 30)


def test_the_source_is_the_one_the_study_names(tmp_path: Path) -> None:
    assert isinstance(source_of(CONFIG), SyntheticSource)
    with pytest.raises(ConfigError, match=r"`--data` is given, but"):
        source_of(CONFIG, tmp_path)
    public = CONFIG.model_copy(update={"simulation": SimulationConfig(source="public", hospitals=6)})
    with pytest.raises(ConfigError, match=r"name the folder of the public data sets with `--data DIR`"):
        source_of(public)
    with pytest.raises(ConfigError, match="there is no such file"):
        source_of(public, tmp_path)


def test_a_site_that_is_the_unit_declares_nothing_of_itself(source: SyntheticSource, tmp_path: Path) -> None:
    privacy = PrivacyConfig(placement=Placement.SUM, unit=Unit.SITE, preference_unit=Unit.SITE)
    site = make_hospitals(CONFIG.model_copy(update={"privacy": privacy}), source, tmp_path)[0]
    assert (dict(site.declared), site.declared_units(Unit.SITE)) == ({}, 1)
