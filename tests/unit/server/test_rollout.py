"""Sampling: left padding changes nothing, draws belong to rows, finished rows stop, and the shared base stays as it was."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from common.bases import load_base
from common.config import AdapterConfig
from common.errors import ModelUnavailable, ShapeError
from common.models import SharedBase
from server.align.decoder import CacheDecoder, Decoder, decoder, merged_copy
from server.align.llama import LlamaDecoder
from server.align.rollout import Answer, choose, sample

PROMPTS = ["I have a cough.", "What should I do about my headache? I am pregnant.", "Fever", "I have a cough.", "A rash that does not fade"]


@pytest.fixture(scope="module")
def base() -> SharedBase:
    """`tiny` in float32 with a random adapter `sft` that moves its logits."""
    base = load_base("tiny", "float32")
    spec = base.spec(AdapterConfig(rank=4, alpha=8.0))
    draws = np.random.default_rng(3)
    base.put("sft", spec.initial().with_vector(draws.normal(0, 0.1, spec.size()).astype(np.float32)))
    return base


def write(base: SharedBase, prompts: list[str], **options: object) -> list[Answer]:
    settings = {"max_new_tokens": 12, "temperature": 1.0, "seed": 5, "dtype": torch.float32} | options
    return sample(base, "sft", prompts, **settings)  # type: ignore[arg-type]  # a dict of mixed settings


def test_order_of_prompts_and_batch_size_change_nothing(base: SharedBase) -> None:
    straight = write(base, PROMPTS)
    swapped = write(base, PROMPTS[::-1])
    # The prompt that stands twice swaps its two draws when the order turns round.
    assert sorted(a.ids for a in straight) == sorted(a.ids for a in swapped)
    assert [straight[i].ids for i in (1, 2, 4)] == [swapped[i].ids for i in (3, 2, 0)]
    assert [a.ids for a in write(base, PROMPTS, batch_size=1)] == [a.ids for a in straight]


def test_same_prompt_twice_gets_two_draws_and_another_seed_another(base: SharedBase) -> None:
    answers = write(base, PROMPTS)
    assert answers[0].ids != answers[3].ids
    assert [a.ids for a in write(base, PROMPTS, seed=6)] != [a.ids for a in answers]
    assert [a.ids for a in write(base, PROMPTS)] == [a.ids for a in answers]


def test_greedy_equals_one_row_at_a_time_without_cache_or_padding(base: SharedBase) -> None:
    answers = write(base, PROMPTS, temperature=0.0)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = base.encode_prompt(prompt, 96)
        expected: list[int] = []
        while len(expected) < 12 and base.end_id not in expected:
            with base.using("sft"), torch.no_grad():
                hidden = base.hidden(base.pad([[*ids, *expected]]))
            expected.append(int(base.logits(hidden[:, -1]).argmax()))
        assert list(answer.ids) == expected


def both_decoders(base: SharedBase, dtype: torch.dtype) -> list[Decoder]:
    return [decoder(base, "sft", rows=2, dtype=dtype), CacheDecoder(merged_copy(base, "sft", dtype))]


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_left_padding_leaves_logits_alone(base: SharedBase, dtype: torch.dtype, kind: int) -> None:
    short, long = base.encode_prompt("Fever", 96), base.encode_prompt(PROMPTS[1] * 2, 96)
    writer = both_decoders(base, dtype)[kind]
    token = torch.tensor([7, 9])
    with torch.inference_mode():
        padded = [writer.start(base.pad([short, long], side="left"), 1)[0], writer.step(token)[0]]
        alone = [writer.start(base.pad([short], side="left"), 1)[0], writer.step(token[:1])[0]]
    worst = max(float((a - b).abs().max()) for a, b in zip(padded, alone, strict=True))
    # The logits reach 3; one float32 step there is 2.4e-7.
    assert worst <= (3e-6 if dtype is torch.float32 else 0.15), worst


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_llama_step_equals_the_general_forward(base: SharedBase, dtype: torch.dtype) -> None:
    llama, general = both_decoders(base, dtype)
    assert isinstance(llama, LlamaDecoder)
    prompts = base.pad([base.encode_prompt(p, 96) for p in PROMPTS], side="left")
    kept = torch.tensor([0, 2, 4])
    with torch.inference_mode():
        pairs = [(llama.start(prompts, 3), general.start(prompts, 3))]
        pairs.append((llama.step(torch.arange(5)), general.step(torch.arange(5))))
        llama.keep(kept)
        general.keep(kept)
        pairs += [(llama.step(ids), general.step(ids)) for ids in (torch.arange(3), torch.arange(7, 10))]
    worst = max(float((a - b).abs().max()) for a, b in pairs)
    assert worst <= (5e-6 if dtype is torch.float32 else 0.15), worst


def test_other_architectures_decode_too(base: SharedBase) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = GPT2Config(vocab_size=600, n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=0, eos_token_id=2)
        gpt2 = SharedBase("gpt2-like", GPT2LMHeadModel(config), base.tokenizer, "0")
    gpt2.put("sft", gpt2.spec(AdapterConfig(rank=2, targets=("c_attn",))).initial())
    assert isinstance(decoder(gpt2, "sft", rows=2), CacheDecoder)
    answers = write(gpt2, PROMPTS, temperature=0.0)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        start = gpt2.encode_prompt(prompt, 96)
        with gpt2.using("sft"), torch.no_grad():
            hidden = gpt2.hidden(gpt2.pad([[*start, *answer.ids]]))[0, len(start) - 1 : -1]
        assert gpt2.logits(hidden).argmax(-1).tolist() == list(answer.ids)


def test_finished_rows_stop_and_say_so(base: SharedBase) -> None:
    answers = write(base, [f"Question {i}" for i in range(64)], max_new_tokens=60, batch_size=16, temperature=2.0)
    ended = [a for a in answers if a.ended]
    assert 0 < len(ended) < len(answers), "the case needs rows of both kinds"
    assert all(a.ids[-1] == base.end_id and base.end_id not in a.ids[:-1] for a in ended)
    assert all(len(a.ids) == 60 and base.end_id not in a.ids for a in answers if not a.ended)
    # Rows that outlive others in the batch read the same cache as when they are alone.
    assert [a.ids for a in answers] == [
        a.ids for a in write(base, [f"Question {i}" for i in range(64)], max_new_tokens=60, batch_size=1, temperature=2.0)
    ]


def test_merging_touches_a_copy_alone(base: SharedBase) -> None:
    before = {name: tensor.clone() for name, tensor in base.lm.state_dict().items()}
    merged = merged_copy(base, "sft", torch.float32)
    batch = base.pad([base.encode_prompt(p, 96) for p in PROMPTS])
    with torch.no_grad(), base.using("sft"):
        apart = base.hidden(batch)
        together = merged.base_model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        bare = merged_copy(base, None, torch.float32).base_model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
    real = batch.mask.bool()
    assert float((apart - together)[real].abs().max()) < 1e-4
    assert float((bare - together)[real].abs().max()) > 0.01
    assert all(torch.equal(before[name], tensor) for name, tensor in base.lm.state_dict().items())


def test_draws_follow_the_distribution_and_the_nucleus() -> None:
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.15, 0.05])
    logits = probabilities.log().expand(1000, -1)
    uniforms = (torch.arange(1000) + 0.5) / 1000
    counts = torch.bincount(choose(logits, uniforms, 1.0, 1.0), minlength=6)
    assert counts.tolist() == [0, 500, 0, 300, 150, 50]
    # .5 + .3 reaches .7; what is left is dealt 5 to 3.
    assert torch.bincount(choose(logits, uniforms, 1.0, 0.7), minlength=6).tolist() == [0, 625, 0, 375, 0, 0]
    assert choose(logits[:1], torch.tensor([1.0]), 1.0, 1.0).tolist() == [5], "a uniform that rounds to 1 still lands on a possible token"


def test_nucleus_wider_than_the_candidates_is_exact() -> None:
    flat = torch.zeros(4000, 2000)
    chosen = choose(flat, (torch.arange(4000) + 0.5) / 4000, 1.0, 0.9)
    assert chosen.unique().numel() == 1800


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"batch_size": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_senseless_bounds_are_refused(base: SharedBase, wrong: dict[str, object]) -> None:
    with pytest.raises(ShapeError, match="must be at least 1"):
        write(base, PROMPTS, **wrong)


def test_unknown_adapter_is_refused(base: SharedBase) -> None:
    with pytest.raises(ModelUnavailable, match="no adapter `policy`"):
        sample(base, "policy", PROMPTS, max_new_tokens=2)


def test_no_prompts_no_answers_and_no_text_in_a_repr(base: SharedBase) -> None:
    assert write(base, []) == []
    assert "cough" not in repr(write(base, PROMPTS)[0])
