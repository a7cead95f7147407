"""Folds over experts' pairs: dealt by question, adapted as the hospitals would, resumed part by part, and figures that add up."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from client.records import CleanNote, Dialogue, Preference
from client.train.engines import FastEngine
from client.train.noise import SeededNoise
from client.train.objectives import EncodedPair, pair_objective
from client.train.round_work import RoundWork
from client.train.update import run_round
from common.adapters import Adapter
from common.bases import load_base
from common.config import Engine, Stage, StudyConfig
from common.errors import ConfigError, StorageError, TrainingRefused
from common.models import SharedBase
from common.privacy.mechanism import Unit
from common.privacy.schedule import noise_multiplier
from common.progress import Silent
from common.secure.exchange import Summed
from server.align.members import AdapterMember
from server.federate.aggregate import OptimizerState, mean_direction, step
from simulations import cli
from simulations.folds import trial
from simulations.folds.adaptation import SitePairs, adapt, pairs_of
from simulations.folds.figures import FoldResult, accuracies, gains
from simulations.folds.pairs import ExpertPair, dealt, expert_pairs
from simulations.folds.recorded import Recorded, recorded
from simulations.folds.states import StateEngine, StateLoss, states, together
from simulations.folds.trial import run_folds
from simulations.sources.datasets import PublicSource
from simulations.sources.public_sets import PublicSets
from tests.helpers.public_sets import write, write_sets
from tests.helpers.sites import sign

PAIRS = 6


def study(**changes: Any) -> StudyConfig:
    tree: dict[str, Any] = {
        "study_id": "folds", "seed": 5,
        "model": {"base": "tiny", "dtype": "float32", "max_prompt_tokens": 24, "max_answer_tokens": 16},
        "privacy": {"preference_unit": "pair", "sampling_rate": 0.5, "epsilon": 8.0},
        "reward": {
            "members": 1, "rounds": 4, "server_optimizer": "sgd", "server_learning_rate": 0.2, "question_likelihood": True,
            "adapter": {"rank": 2, "factors": "head", "reads": "question"}, "pretraining": {"pairs": 16, "learning_rate": 3e-3},
        },
        "simulation": {"source": "public", "hospitals": 3, "patients": 4, "declared_preference_units": PAIRS, "canaries": 1},
    }  # fmt: skip
    for key, value in changes.items():
        tree[key] = {**tree[key], **value}
    return StudyConfig.model_validate(tree)


def made_up(questions: int, each: int = 2, source: str = "pref_medquad_judged") -> list[ExpertPair]:
    return [
        ExpertPair(source, f"question {q}", f"Question {q}?", f"A good answer to {q}, number {n}.", "Bad.")
        for q in range(questions)
        for n in range(each)
    ]


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_base("tiny", "float32")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_sets(tmp_path_factory.mktemp("sets"))
    edits = [
        {"id": f"e{n}", "prompt": f"What of edit {n}?", "chosen": f"This is so {n}.", "rejected": f"This is not so {n}."} for n in range(4)
    ]
    write(folder / "pref_medec" / "pairs_train.jsonl", edits[:3])
    write(folder / "pref_medec" / "pairs_valid.jsonl", edits[3:])
    return folder


def test_folds_hold_whole_questions_and_are_alike_in_size() -> None:
    pairs = [*made_up(23), *made_up(1, each=9), *made_up(7, each=1, source="pref_medec")]
    folds = dealt(pairs, 5, seed=3)
    assert sorted(map(repr, pairs)) == sorted(repr(p) for fold in folds for p in fold)
    assert sum(len({p.question for p in fold}) for fold in folds) == len({p.question for p in pairs})
    sizes = [sum(p.rated for p in fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 2, sizes
    assert dealt(pairs, 5, seed=3) == folds != dealt(pairs, 5, seed=4)
    alone = dealt([p for p in pairs if p.rated], 5, seed=3)
    assert [[p for p in fold if p.rated] for fold in folds] == alone, "sets beside move no rated question"
    with pytest.raises(ConfigError, match="3 rated questions cannot be dealt to 5 folds"):
        dealt(made_up(3), 5, seed=3)


def test_all_pairs_are_read_and_sets_beside_are_optional(data: Path, tmp_path: Path) -> None:
    pairs = expert_pairs(PublicSets(data))
    assert {p.source: sum(q.source == p.source for q in pairs) for p in pairs} == {
        "pref_medquad_judged": 24, "pref_mediqa2019_gov": 24, "pref_medec": 4,
    }  # fmt: skip
    assert not any(p.rated for p in pairs if p.source == "pref_medec")
    assert len(expert_pairs(PublicSets(write_sets(tmp_path)))) == 48


@pytest.mark.parametrize("engine", [Engine.FAST, Engine.NONE])
@pytest.mark.parametrize("adapter", [{}, {"factors": "ffa", "reads": "answer"}, {"reads": "answer"}])
def test_the_rounds_are_those_of_the_hospitals_own_engine(
    base: SharedBase, tmp_path: Path, engine: Engine, adapter: dict[str, str]
) -> None:
    """The same pairs in real vaults, round by round through `run_round`: the same adapter, bit for bit."""
    asked = study(privacy={"engine": engine}, reward={"adapter": {"rank": 2, "factors": "head", "reads": "question", **adapter}})
    start = base.spec(asked.reward.adapter, head=True).initial()
    dealt_to = pairs_of(made_up(9), ("north", "south", "east"), asked)
    assert sorted(map(len, dealt_to.values())) == [PAIRS] * 3
    rows = {name: SitePairs([_encoded(base, asked, p) for p in of_site]) for name, of_site in dealt_to.items()}
    ours = adapt(asked, base, start, rows, pair_objective(asked.reward), FastEngine(), member=0, noise_seed=11)

    hospitals = {name: _hospital(tmp_path / name, of_site) for name, of_site in dealt_to.items()}
    sigma = noise_multiplier(asked, Stage.REWARD) if asked.private else 0.0
    now: Adapter = start
    state: OptimizerState = {}
    for number in range(asked.reward.rounds):
        work = RoundWork(asked, Stage.REWARD, 0, number, 0, now, sigma, 0.5 * PAIRS, len(rows))
        words = [run_round(work, site, base, noise=SeededNoise(11, name)).words.astype(np.int64) for name, site in hospitals.items()]
        direction = mean_direction(Summed(np.sum(words, 0), tuple(sorted(rows))), 2.0**-16, dict.fromkeys(rows, 0.5 * PAIRS))
        now, state = step(asked.reward, number, now, direction, state)
    for site in hospitals.values():
        site.close()
    assert now.digest == ours.digest
    assert ours.digest != start.digest


@pytest.mark.parametrize("reads", ["answer", "question"])
@pytest.mark.parametrize("engine", [Engine.FAST, Engine.NONE])
def test_rounds_on_states_are_rounds_on_texts(base: SharedBase, tmp_path: Path, engine: Engine, reads: str) -> None:
    asked = study(
        privacy={"engine": engine}, reward={"adapter": {"rank": 2, "factors": "head", "reads": reads}, "centring": 0.05, "tie_margin": 0.2}
    )
    spec = base.spec(asked.reward.adapter, head=True)
    draws = np.random.default_rng(0)
    start = Adapter(spec, {t.name: draws.normal(0, 0.1, t.shape).astype(np.float32) for t in spec.tensors})
    pairs = made_up(9)
    texts = list(dict.fromkeys((p.prompt, text) for p in pairs for text in (p.better, p.worse)))
    found = together([states(tmp_path, f"part{n}", base, start, texts[n::2], asked.model) for n in range(2)])
    places = {text: row for row, text in enumerate(found.texts)}
    of_sites = pairs_of(pairs, ("north", "south", "east"), asked)
    on_texts, on_states = (
        adapt(
            asked,
            base,
            start,
            {site: SitePairs([row(p) for p in of_site]) for site, of_site in of_sites.items()},
            objective,
            of,
            member=0,
            noise_seed=3,
        )
        for row, objective, of in (
            (partial(_encoded, base, asked), pair_objective(asked.reward), FastEngine()),
            (lambda p: found.pair(p.prompt, p.better, p.worse, places), StateLoss(0.05, 0.2), StateEngine()),
        )
    )
    np.testing.assert_allclose(on_states.vector(), on_texts.vector(), atol=2e-4)
    assert np.abs(on_texts.vector() - start.vector()).max() > 2e-2
    base.put("moved", on_texts)
    scored = AdapterMember(base, "moved", asked.model)([p for p, _ in found.texts], [t for _, t in found.texts])
    np.testing.assert_allclose(list(found.member("moved", on_texts).scores.values()), scored, atol=1e-4)
    again = states(tmp_path, "part0", base, start, texts[0::2], asked.model)
    np.testing.assert_array_equal(again.ends, found.ends[[places[text] for text in texts[0::2]]])
    next(tmp_path.glob("states-part0-*")).write_bytes(b"no")
    with pytest.raises(StorageError, match="remove it to compute these states again"):
        states(tmp_path, "part0", base, start, texts[0::2], asked.model)


def test_states_take_no_other_rows(base: SharedBase) -> None:
    asked = study()
    start = base.spec(asked.reward.adapter, head=True).initial()
    rows = {"north": SitePairs([_encoded(base, asked, p) for p in made_up(6)])}
    with pytest.raises(TrainingRefused, match="give pairs of states"):
        adapt(asked, base, start, rows, pair_objective(asked.reward), StateEngine(), member=0, noise_seed=1)


def _encoded(base: SharedBase, asked: StudyConfig, pair: ExpertPair) -> EncodedPair:
    bounds = {"max_prompt_tokens": asked.model.max_prompt_tokens, "max_answer_tokens": asked.model.max_answer_tokens}
    better, worse = (base.encode_for(asked.reward.adapter, pair.prompt, text, **bounds) for text in (pair.better, pair.worse))
    return EncodedPair(better, worse)


def _hospital(folder: Path, pairs: Sequence[ExpertPair]) -> Site:
    """A real site with those pairs, in that order."""
    declared = {Unit.PATIENT: 4, Unit.PAIR: PAIRS}
    site = Site.create(
        folder, folder.name, HospitalPolicy(allow_not_private=True, allowed_units=(Unit.PAIR,)), declared_units=declared, simulated_seed=1
    )
    site.vault.put_notes([CleanNote("n", "p", "text", dialogues=(Dialogue("what", "this"),))])
    site.vault.put_preferences(
        Preference(f"{number:03}", p.prompt, p.better, p.worse, annotator_id="a", patient_id="p") for number, p in enumerate(pairs)
    )
    sign(site)
    return site


def test_what_folds_do_not_have_is_refused(base: SharedBase, data: Path, tmp_path: Path) -> None:
    asked = study(privacy={"preference_unit": "patient"})
    source = PublicSource(asked, data)
    with pytest.raises(ConfigError, match=r"set `privacy\.preference_unit = \"pair\"` and `reward\.local_steps = 1`"):
        run_folds(asked, source, base, tmp_path, folds=3, progress=Silent())
    with pytest.raises(ConfigError, match=r"set `reward\.adapter\.factors = \"head\"`"):
        run_folds(study(reward={"adapter": {"rank": 2}}), source, base, tmp_path, folds=3, progress=Silent())


def test_scores_are_read_again_and_bound_to_what_they_depend_on(tmp_path: Path) -> None:
    texts, calls = [("q", "a"), ("q", "b")], []

    def score() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"one": np.array([1.0, 2.0])}

    first = recorded(tmp_path, "part", "digest", texts, score)
    assert recorded(tmp_path, "part", "digest", texts, score) == first
    assert len(calls) == 1
    recorded(tmp_path, "part", "other", texts, score)
    recorded(tmp_path, "part", "digest", texts[:1], lambda: {"one": np.array([1.0])})
    assert len(calls) == 2
    assert len(list(tmp_path.iterdir())) == 3
    np.testing.assert_array_equal(first["one"](["q", "q"], ["b", "a"]), [2, 1])
    with pytest.raises(ConfigError, match="`one` was not scored"):
        first["one"](["q"], ["c"])
    for path in tmp_path.iterdir():
        path.write_text('{"one": 3}')
    with pytest.raises(StorageError, match="remove it to score these answers again"):
        recorded(tmp_path, "part", "digest", texts, score)
    assert "q" not in repr(Recorded("one", {("q", "a"): 1.0})).replace("question", "")


def test_figures_by_hand() -> None:
    rated, beside = made_up(2), made_up(1, each=1, source="pref_medec")
    margins = {name: np.array([1.0, -1.0, 1.0, 0.0, -1.0]) for name in ("length", "word_overlap", "bag_of_words")}
    margins["learned"] = np.array([1.0, 1.0, 1.0, 1.0, 1.0])
    found = accuracies([FoldResult([*rated, *beside], 0, margins)])
    assert found["length"]["rated"].value == (1 + 0 + 1 + 0.5) / 4
    assert found["length"]["pref_medec"].value == 0
    assert found["learned"]["rated"].n == 4
    gain = gains([FoldResult([*rated, *beside], 0, margins)])
    assert gain["learned"]["length"].value == 1 - 2.5 / 4
    assert set(gain) == {"learned"}


def test_the_whole_trial_resumes_and_says_the_same(base: SharedBase, data: Path, tmp_path: Path) -> None:
    asked, source = study(), PublicSource(study(), data)
    whole = run_folds(asked, source, base, tmp_path / "whole", folds=3, progress=Silent())
    assert sum(fold.pairs for fold in whole.folds) == 48
    assert sum(fold.questions for fold in whole.folds) == 12
    assert all(fold.trained_on == 48 - fold.pairs for fold in whole.folds)
    readings = ("length", "word_overlap", "bag_of_words", "question_likelihood", "public_pairs", "public_pairs_with_likelihood",
                "hospitals_not_private", "hospitals_not_private_with_likelihood", "hospitals_private", "hospitals_private_with_likelihood")  # fmt: skip
    assert tuple(whole.pooled) == readings
    assert whole.pooled["length"]["rated"].value == 1.0
    assert whole.untouched["length"]["rated"].n == 48 - whole.folds[0].pairs
    assert whole.epsilon is not None
    assert 7.5 < whole.epsilon <= 8.0

    class Killed(Exception):
        pass

    class Killing(Silent):
        """Kills at the given call of advance."""

        def __init__(self, at: int) -> None:
            self.left = at

        def advance(self, n: int = 1) -> None:
            self.left -= 1
            if self.left == 0:
                raise Killed

    for at in (2, 4, 5, 8, 11):
        with pytest.raises(Killed):
            run_folds(asked, source, base, tmp_path / "pieces", folds=3, progress=Killing(at))
    assert run_folds(asked, source, base, tmp_path / "pieces", folds=3, progress=Silent()) == whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "QuestionLikelihood", lambda *_: None)
        patch.setattr(base, "ends", None)
        assert run_folds(asked, source, base, tmp_path / "pieces", folds=3, progress=Silent()) == whole, "everything is read"
    bare = run_folds(study(privacy={"engine": "none"}), source, base, tmp_path / "bare", folds=3, progress=Silent())
    assert bare.epsilon is bare.noise_multiplier is None
    assert "hospitals_private" not in bare.pooled
    assert bare.pooled["hospitals_not_private"] == whole.pooled["hospitals_not_private"]


def test_the_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.toml").write_text(_toml(study()))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*more: str) -> str:
        monkeypatch.setattr(
            sys, "argv", ["wardround", "folds", str(tmp_path / "study.toml"), "--data", str(data), "--out", str(tmp_path / "out"), *more]
        )
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return capsys.readouterr().out

    told = json.loads(run("--folds", "3", "--json"))
    assert told == json.loads((tmp_path / "out" / "folds.json").read_text())
    shown = run("--folds", "3")
    assert "hospitals private + question likelihood" in shown
    assert "for one pair" in shown
    monkeypatch.setattr(sys, "argv", ["wardround", "folds", str(tmp_path / "study.toml"), "--data", str(data), "--out", str(tmp_path), "--set", 'simulation.source="synthetic"'])  # fmt: skip
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert 'simulation.source = "public"' in capsys.readouterr().err


def _toml(asked: StudyConfig) -> str:
    return tomli_w.dumps(asked.model_dump(mode="json", exclude_none=True))
