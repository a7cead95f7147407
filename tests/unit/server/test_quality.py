"""Held-out loss, KL and the figures on numbers, each against a slow or worked-out twin."""

import math

import numpy as np
import pytest
import torch

from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig, Factors, ModelConfig
from common.errors import NotFinite, ShapeError
from common.models import Encoded, SharedBase
from server.evaluate.quality import (
    Example,
    accuracy,
    accuracy_by,
    calibrated,
    calibration_error,
    reward_quality,
    sequence_kl,
    sft_losses,
    temperature,
    win_rate,
)

EXAMPLES = [
    Example("I have a headache. What should I do?", "Take one tablet of paracetamol every six hours."),
    Example("I am pregnant.", "Seek urgent care for severe pain."),
    Example("What about my cough? " * 6, "Come back if the fever does not settle or you feel worse."),
]
CONFIG = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=60, max_answer_tokens=40)


def _random(base: SharedBase, seed: int) -> Adapter:
    spec = base.spec(AdapterConfig(rank=2, factors=Factors.LORA))
    rng = np.random.default_rng(seed)
    return Adapter(spec, {t.name: rng.normal(scale=0.2, size=t.shape).astype(np.float32) for t in spec.tensors})


@pytest.fixture(scope="module")
def base() -> SharedBase:
    base = load_base("tiny", "float32")
    for seed, name in enumerate(("policy", "sft")):
        base.put(name, _random(base, seed))
    return base


def _log_probs(base: SharedBase, name: str | None, row: Encoded, temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities (answer length, vocabulary) of one unpadded row, the plain way."""
    with torch.inference_mode(), base.using(name):
        logits = base.lm(torch.tensor([row.ids])).logits[0].float() / temperature
    return torch.log_softmax(logits, -1)[row.prompt_length - 1 : -1]


def _encode(base: SharedBase, example: Example) -> Encoded:
    return base.encode(example.prompt, example.answer, max_prompt_tokens=60, max_answer_tokens=40)


@pytest.mark.parametrize("tokens", [1, 90, 4096])
def test_loss_is_that_of_each_example_alone(base: SharedBase, tokens: int) -> None:
    for name in ("sft", None):
        expected = []
        for row in (_encode(base, e) for e in EXAMPLES):
            target = torch.tensor(row.ids[row.prompt_length :])
            expected.append(-_log_probs(base, name, row).gather(1, target[:, None]).mean().item())
        assert sft_losses(base, name, EXAMPLES, CONFIG, tokens=tokens) == pytest.approx(expected, abs=1e-5)


def test_loss_that_is_not_a_number_is_refused(base: SharedBase) -> None:
    broken = base.get("sft")
    name = next(t.name for t in broken.spec.tensors if "lora_B" in t.name)
    base.put("broken", Adapter(broken.spec, {**broken.tensors, name: np.full_like(broken.tensors[name], np.nan)}))
    with pytest.raises(NotFinite, match="3 of 3"):
        sft_losses(base, "broken", EXAMPLES, CONFIG)
    base.drop("broken")


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_kl_is_the_full_vocabulary_sum(base: SharedBase, temperature: float) -> None:
    rows = [_encode(base, e) for e in EXAMPLES]
    expected = []
    for row in rows:
        p, q = (_log_probs(base, name, row, temperature) for name in ("policy", "sft"))
        expected.append((p.exp() * (p - q)).sum().item())
    assert sequence_kl(base, "policy", "sft", rows, temperature=temperature, tokens=100) == pytest.approx(expected, rel=1e-4)
    assert sequence_kl(base, "sft", "sft", rows).max() == 0
    with pytest.raises(ShapeError, match="temperature"):
        sequence_kl(base, "policy", "sft", rows, temperature=0.0)


def test_ties_count_half() -> None:
    assert accuracy([1.0, -1.0, 0.0, 2.0]).value == 2.5 / 4
    rate = win_rate([0.9, 0.5, 0.1, 0.7], [0.1, 0.5, 0.9, 0.7])
    assert (rate.value, rate.n) == (0.5, 4)
    assert rate.low < 0.5 < rate.high


def test_win_rate_refuses_what_is_not_paired() -> None:
    with pytest.raises(ShapeError, match="one score for each prompt"):
        win_rate([1.0], [1.0, 2.0])
    with pytest.raises(NotFinite):
        win_rate([float("nan")], [1.0])


def test_pairs_of_one_prompt_widen_the_interval() -> None:
    margins = np.where(np.arange(60) % 3 == 0, -1.0, 1.0)
    alone = accuracy(margins)
    clustered = accuracy(np.repeat(margins, 5), [f"q{i // 5}" for i in range(300)], np.random.default_rng(0))
    naive = accuracy(np.repeat(margins, 5))
    assert clustered.value == alone.value == naive.value
    assert clustered.high - clustered.low > 1.5 * (naive.high - naive.low)
    with pytest.raises(ShapeError, match="share prompts"):
        accuracy([1.0, 1.0], ["q", "q"])


def test_groups_are_counted_apart() -> None:
    by = accuracy_by([1.0, -1.0, 1.0, 1.0], ["yes", "yes", "no", "no"])
    assert {k: (v.value, v.n) for k, v in by.items()} == {"yes": (0.5, 2), "no": (1.0, 2)}
    with pytest.raises(ShapeError, match="2 margins but 1"):
        accuracy_by([1.0, 2.0], ["a"])


def test_reward_quality_reports_members_groups_and_baselines() -> None:
    found = reward_quality(
        [2.0, 1.0, -1.0],
        [[1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]],
        own_scale=[2.0, 1.0, -1.0],
        groups={"on_policy": ["yes", "no", "no"]},
        baselines={"length": accuracy([1.0, -1.0, -1.0])},
    )
    assert [m.value for m in found.members] == [1.0, pytest.approx(1 / 3)]
    assert found.by["on_policy"]["no"].value == 0.5
    assert found.beats_baselines
    with pytest.raises(ShapeError, match=r"\(members, pairs\)"):
        reward_quality([1.0], [1.0], own_scale=[1.0], groups={}, baselines={})


def test_calibration_by_hand() -> None:
    """Four pairs said to be won with .75, three of them won: no error; none of them won: .75."""
    margin = math.log(3)  # σ(ln 3) = 3/4
    assert calibration_error([margin, margin, margin, -margin], bins=1) == pytest.approx(0, abs=1e-12)
    assert calibration_error([-margin] * 4, bins=1) == pytest.approx(0.75)


def test_a_reward_that_means_its_scale_is_calibrated_and_an_inflated_one_is_not() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20_000)
    honest = np.where(rng.random(truth.size) < 1 / (1 + np.exp(-np.abs(truth))), np.abs(truth), -np.abs(truth))
    assert calibration_error(honest) < 0.01
    assert calibration_error(5 * honest) > 0.15


def test_examples_do_not_show_their_text() -> None:
    assert "headache" not in repr(EXAMPLES)


def test_a_temperature_undoes_a_wrong_scale() -> None:
    draws = np.random.default_rng(4)
    true = draws.normal(0, 2, 4000)
    right = draws.random(4000) < 1 / (1 + np.exp(-np.abs(true)))
    margins = np.where(right, np.abs(true), -np.abs(true))
    assert temperature(margins) == pytest.approx(1, abs=0.1)
    assert temperature(5 * margins) == pytest.approx(5, abs=0.5)
    prompts = [f"{i}" for i in range(4000)]
    assert calibration_error(calibrated(5 * margins, prompts)) < 0.03 < calibration_error(5 * margins)


def test_no_pair_helps_to_choose_its_own_temperature() -> None:
    prompts = [f"{i}" for i in range(40)]
    margins = np.linspace(-1, 3, 40)
    before = calibrated(margins, prompts)
    changed = margins.copy()
    changed[7] = -50.0
    after = calibrated(changed, prompts)
    assert after[7] / before[7] == pytest.approx(changed[7] / margins[7])
    with pytest.raises(ShapeError, match="cannot be halved by prompt"):
        calibrated([1.0, 2.0], ["same", "same"])
