"""A unit's gradient is what one unit alone would give: exactly, for every engine, objective, factor and kind of layer."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.pytorch_utils import Conv1D

from client.train.dp_sgd import unit_gradients
from client.train.engines import FastEngine, GradientEngine, HeadEngine, Part, Task, UnitRows
from client.train.lora_grads import recording
from client.train.objectives import CompletionLoss, PairLoss, QuestionPairLoss
from client.train.opacus_engine import OpacusEngine
from client.train.probing import probe
from common.adapters import HEAD, Adapter, TensorSpec
from common.bases import Dtype, load_base
from common.config import AdapterConfig, Factors
from common.errors import TrainingRefused
from common.models import LIKELIHOOD_SCALE, Encoded, SharedBase

NAME = "local"


def gpt2() -> SharedBase:
    """A random two-layer GPT-2: Conv1D projections with bias, learned positions, tied embeddings."""
    tokenizer = load_base("tiny", "float32").tokenizer
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=600, n_positions=256, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    return SharedBase("gpt2-tiny", GPT2LMHeadModel(config).double(), tokenizer, "0" * 64)


@pytest.fixture(autouse=True)
def norms_in_the_models_own_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers computes the norm in float32 whatever the model's dtype, and one flipped rounding there is 1e-7 of a float64 model."""

    def forward(module: LlamaRMSNorm, hidden: torch.Tensor) -> torch.Tensor:
        wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
        return module.weight * normed.to(hidden.dtype)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


def untied() -> SharedBase:
    """The tiny Llama with an LM head of its own; `tiny` itself, and GPT-2, tie it to the embeddings."""
    tiny = load_base("tiny", "float32")
    torch.manual_seed(4)
    config = LlamaConfig(**{**tiny.lm.config.to_dict(), "tie_word_embeddings": False})
    return SharedBase("untied-tiny", LlamaForCausalLM(config).double(), tiny.tokenizer, "0" * 64)


def base_of(kind: str, dtype: Dtype) -> SharedBase:
    made = {"gpt2": gpt2, "untied": untied}
    return made[kind]() if kind in made else load_base("tiny", dtype)


def task_of(
    base: SharedBase,
    objective: Any,
    factors: Factors = Factors.FFA,
    *,
    last_layers: int | None = None,
    head_factor: float = 1.0,
    seed: int = 1,
    whole: Any = (),
) -> Task[Any]:
    """A task on an adapter whose every tensor is random, so that both factors have a gradient."""
    targets: Any = ("c_attn", "c_proj", "c_fc") if base.name.startswith("gpt2") else AdapterConfig().targets
    config = AdapterConfig(rank=4, alpha=8.0, targets=targets, factors=factors, last_layers=last_layers, whole=whole)
    spec = base.spec(config, head=isinstance(objective, PairLoss))
    generator = torch.Generator().manual_seed(seed)
    tensors = {t.name: (torch.randn(t.shape, generator=generator) * 0.1).numpy() for t in spec.tensors}
    base.put(NAME, Adapter(spec, tensors))
    if spec.head:
        base.heads[NAME].data = base.heads[NAME].data.to(base.lm.dtype)
    return Task(base, NAME, spec.trained(), objective, head_factor)


def draws(seed: int) -> Callable[[int], tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return lambda n: tuple(torch.randint(3, 590, (n,), generator=generator).tolist())


def units_of(objective: Any) -> list[UnitRows[Any]]:
    """Four units of 1, 3, 1 and 2 rows with lengths of their own."""
    rows = objective.made_up((11, 24, 7, 18, 40, 13, 29), draws(5))
    if getattr(objective, "tie_margin", 0) > 0:
        rows = [replace(row, tie=place % 2 == 1) for place, row in enumerate(rows)]
    return [UnitRows((rows[0],)), UnitRows((rows[1], rows[2], rows[3])), UnitRows((rows[4],)), UnitRows((rows[5], rows[6]))]


def reference_loss(task: Task[Any], row: Any) -> torch.Tensor:
    """One row alone through the unchanged model, written apart from the code under test."""
    base = task.base
    with base.using(NAME):
        if isinstance(row, Encoded):
            logits = base.lm(input_ids=torch.tensor([row.ids])).logits[0]
            answer = torch.tensor(row.ids[row.prompt_length :])
            return torch.nn.functional.cross_entropy(logits[row.prompt_length - 1 : -1], answer)
        scores, likelihoods = [], []
        for e in (row.chosen, row.rejected):
            hidden = base.lm.base_model(input_ids=torch.tensor([e.ids])).last_hidden_state[0]
            scores.append((hidden[-1] * base.heads[NAME][0]).sum())
            log_p = base.lm.get_output_embeddings()(hidden).log_softmax(-1)
            likelihoods.append(torch.stack([log_p[t - 1, e.ids[t]] for t in range(e.prompt_length, len(e.ids))]).mean())
    margin, eta = scores[0] - scores[1], task.objective.tie_margin
    if isinstance(task.objective, QuestionPairLoss):
        margin = margin + LIKELIHOOD_SCALE * (likelihoods[0] - likelihoods[1])
    likelihood = torch.sigmoid(margin - eta)
    if row.tie:
        likelihood = (math.exp(2 * eta) - 1) * likelihood * torch.sigmoid(-margin - eta)
    fit = -row.weight * torch.log(likelihood)
    return fit + task.objective.centring * (scores[0] ** 2 + scores[1] ** 2) / 2


def one_by_one(task: Task[Any], units: list[UnitRows[Any]]) -> torch.Tensor:
    """(units, d) by plain autograd, one row at a time, averaged over the unit's rows."""
    parameters = [task.base.parameters(NAME)[t.name] for t in task.trained]
    result = []
    for unit in units:
        total: list[torch.Tensor] = [torch.zeros_like(p) for p in parameters]
        for row in unit.rows:
            for parameter in parameters:
                parameter.requires_grad_(True)
            grads = torch.autograd.grad(reference_loss(task, row), parameters)
            total = [t + g / len(unit.rows) for t, g in zip(total, grads, strict=True)]
            for parameter in parameters:
                parameter.requires_grad_(False)
        scaled = [t * task.head_factor if s.name == HEAD else t for t, s in zip(total, task.trained, strict=True)]
        result.append(torch.cat([t.reshape(-1) for t in scaled]))
    return torch.stack(result)


def relative(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return float(((ours - exact).norm(dim=1) / exact.norm(dim=1)).max())


OBJECTIVES = {
    "sft": CompletionLoss(), "pair": PairLoss(0.05), "pair with margin": PairLoss(0.05, 0.4), "question": QuestionPairLoss(0.05, 0.4),
}  # fmt: skip
ENGINES: dict[str, GradientEngine] = {"fast": FastEngine(), "opacus": OpacusEngine()}


@pytest.fixture(params=["fast", "opacus"])
def engine(request: pytest.FixtureRequest) -> GradientEngine:
    return ENGINES[request.param]


@pytest.mark.parametrize("factors", [factors for factors in Factors if factors is not Factors.HEAD])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "untied"])
def test_equals_one_unit_at_a_time_in_float64(kind: str, objective: str, factors: Factors, engine: GradientEngine) -> None:
    base = base_of(kind, "float64")
    task = task_of(base, OBJECTIVES[objective], factors, head_factor=0.7)
    units = units_of(task.objective)
    ours = torch.cat(list(unit_gradients(task, engine, units, 10_000)))
    exact = one_by_one(task, units)
    assert ours.dtype == torch.float64
    error = relative(ours, exact)
    assert error <= 1e-12, f"{error:.2e}"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_head_alone_equals_one_unit_at_a_time_and_the_whole_engine(kind: str) -> None:
    task = task_of(base_of(kind, "float64"), PairLoss(0.05), Factors.HEAD, head_factor=0.7)
    units, engine = units_of(task.objective), HeadEngine()
    assert [t.name for t in task.trained] == [HEAD]
    for _ in range(2):  # computed, then remembered
        ours = torch.cat(list(unit_gradients(task, engine, units, 10_000)))
        assert torch.equal(ours, torch.cat(list(unit_gradients(task, FastEngine(), units, 10_000))))
        assert relative(ours, one_by_one(task, units)) <= 1e-12
    parts = [Part(unit.rows, 1.0) for unit in units]
    moved = task_of(base_of(kind, "float64"), PairLoss(0.05), Factors.HEAD, seed=2)
    assert torch.equal(engine.gradients(moved, parts), FastEngine().gradients(moved, parts)), "what was under the old trunk is forgotten"
    assert not torch.equal(engine.gradients(moved, parts), ours)
    with pytest.raises(TrainingRefused, match="layers below the head are trained too"):
        HeadEngine().gradients(task_of(base_of(kind, "float64"), PairLoss(0.05)), parts)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equals_one_unit_at_a_time_in_float32(objective: str, engine: GradientEngine) -> None:
    task = task_of(load_base("tiny", "float32"), OBJECTIVES[objective], Factors.LORA)
    units = units_of(task.objective)
    error = relative(torch.cat(list(unit_gradients(task, engine, units, 10_000))), one_by_one(task, units))
    # LIKELIHOOD_SCALE multiplies what float32 rounds in the difference of two likelihoods.
    assert error <= (1e-6 * LIKELIHOOD_SCALE if objective == "question" else 1e-6), f"{error:.2e}"


WHOLE = {"llama": ("o_proj", "down_proj"), "untied": ("q_proj",), "gpt2": ("c_proj",)}


def whole_task(kind: str, base: SharedBase, objective: Any, factors: Factors) -> Task[Any]:
    """As `task_of`, with layers that are trained whole; A of these is the identity, as it is in every study."""
    task = task_of(base, objective, factors, whole=WHOLE[kind])
    adapter = base.get(NAME)
    spec, public = adapter.spec, adapter.spec.initial().tensors
    kept = {t.name: (public if ".lora_A." in t.name and spec.is_whole(t) else adapter.tensors)[t.name] for t in spec.tensors}
    base.put(NAME, Adapter(spec, kept))
    if spec.head:
        base.heads[NAME].data = base.heads[NAME].data.to(base.lm.dtype)
    return task


def by_the_weight_itself(task: Task[Any], units: list[UnitRows[Any]]) -> dict[str, torch.Tensor]:
    """Tensor name of each whole layer's B → gradient of every unit with respect to the layer's own weight, by plain autograd (units, out, in)."""
    found, layers = {}, dict(task.base.lora_layers())
    for key in task.base.get(NAME).spec.whole_ranks():
        layer = layers[key]
        weight, per_unit = layer.get_base_layer().weight, []
        for unit in units:
            weight.requires_grad_(True)
            rows = [torch.autograd.grad(reference_loss(task, row), weight)[0] for row in unit.rows]
            weight.requires_grad_(False)
            mean = torch.stack(rows).mean(0)
            per_unit.append(mean.T if isinstance(layer.get_base_layer(), Conv1D) else mean)
        found[f"base_model.model.{key}.lora_B.weight"] = torch.stack(per_unit)
    return found


@pytest.mark.parametrize("objective", ["sft", "pair"])
@pytest.mark.parametrize("kind", list(WHOLE))
def test_a_layer_that_is_trained_whole_has_its_weights_own_gradient(kind: str, objective: str, engine: GradientEngine) -> None:
    task = whole_task(kind, base_of(kind, "float64"), OBJECTIVES[objective], Factors.FFA)
    units = units_of(task.objective)
    ours = torch.cat(list(unit_gradients(task, engine, units, 10_000)))
    assert relative(ours, one_by_one(task, units)) <= 1e-12
    weights, start = by_the_weight_itself(task, units), 0
    assert len(weights) == {"llama": 4, "untied": 2, "gpt2": 4}[kind]
    for tensor in task.trained:
        if tensor.name in weights:
            part = ours[:, start : start + tensor.size]
            error = relative(part, weights[tensor.name].reshape(len(units), -1))
            assert error <= 1e-12, f"{tensor.name}: {error:.1e}"
        start += tensor.size


@pytest.mark.parametrize("objective", ["sft", "pair"])
def test_whole_layers_in_float32(objective: str, engine: GradientEngine) -> None:
    task = whole_task("llama", load_base("tiny", "float32"), OBJECTIVES[objective], Factors.LORA)
    assert not [t.name for t in task.trained if ".o_proj.lora_A." in t.name], "the identity is not trained"
    units = units_of(task.objective)
    error = relative(torch.cat(list(unit_gradients(task, engine, units, 10_000))), one_by_one(task, units))
    assert error <= 1e-6, f"{error:.2e}"


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_neighbours_change_no_bit_of_a_units_gradient(objective: str, dtype: Dtype) -> None:
    task = task_of(load_base("tiny", dtype), OBJECTIVES[objective], Factors.LORA)
    rows = task.objective.made_up((31, 17, 60, 200, 3, 90), draws(9))
    unit, *others = [UnitRows((row,)) for row in rows]
    alone = FastEngine().gradients(task, [Part(unit.rows, 1.0)])[0]
    for count in range(1, len(others) + 1):
        for place in (0, count):
            batch = others[:place] + [unit] + others[place:count]
            among = FastEngine().gradients(task, [Part(u.rows, 1.0) for u in batch])[place]
            assert torch.equal(alone, among), f"{count} neighbours, place {place}: moved by {float((alone - among).abs().max()):.2e}"


def test_bfloat16_stays_close_to_float32() -> None:
    exact, rough = (
        torch.cat(
            list(
                unit_gradients(task := task_of(load_base("tiny", dtype), CompletionLoss()), FastEngine(), units_of(task.objective), 10_000)
            )
        )
        for dtype in ("float32", "bfloat16")
    )
    assert rough.dtype == torch.float32
    assert relative(rough, exact) <= 0.05


def test_bfloat16_autocast_over_a_float32_base_stays_close() -> None:
    task = task_of(load_base("tiny", "float32"), CompletionLoss(), Factors.LORA)
    units = units_of(task.objective)
    exact = torch.cat(list(unit_gradients(task, FastEngine(), units, 10_000)))
    with torch.autocast("cpu", torch.bfloat16):
        rough = torch.cat(list(unit_gradients(task, FastEngine(), units, 10_000)))
    assert 0 < relative(rough, exact) <= 0.05


@pytest.mark.parametrize("budget", [1, 30, 64, 10_000])
def test_micro_batches_change_nothing(budget: int) -> None:
    """Cut by token budget, whole units together; a unit above the budget is computed in pieces and added up."""
    task = task_of(base_of("gpt2", "float64"), CompletionLoss(), Factors.LORA)
    units = [*units_of(task.objective), UnitRows(())]
    batches = list(unit_gradients(task, FastEngine(), units, budget))
    assert len(batches) == {1: 4, 30: 4, 64: 3, 10_000: 1}[budget]
    assert relative(torch.cat(batches), one_by_one(task, units[:-1])) <= 1e-12


def test_gradients_survive_gradient_checkpointing() -> None:
    base = base_of("llama", "float64")
    task = task_of(base, CompletionLoss(), Factors.LORA)
    units = units_of(task.objective)
    plain = torch.cat(list(unit_gradients(task, FastEngine(), units, 10_000)))
    base.lm.activation_checkpointing_enable({"use_reentrant": False})
    base.lm.train()
    try:
        again = torch.cat(list(unit_gradients(task, FastEngine(), units, 10_000)))
    finally:
        base.lm.activation_checkpointing_disable()
        base.lm.eval()
    assert torch.equal(plain, again)


def test_no_graph_is_built_below_the_lowest_adapter() -> None:
    task = task_of(load_base("tiny", "float32"), PairLoss(0.01), last_layers=1)
    seen: list[bool] = []
    layers = task.base.lm.base_model.layers
    handles = [
        layer.register_forward_hook(lambda m, i, o: seen.append((o if torch.is_tensor(o) else o[0]).requires_grad)) for layer in layers
    ]
    FastEngine().gradients(task, [Part(units_of(task.objective)[0].rows, 1.0)])
    for handle in handles:
        handle.remove()
    assert seen == [False, True]


def test_the_base_is_left_as_it_was() -> None:
    task = task_of(load_base("tiny", "float32"), PairLoss(0.01), Factors.LORA)
    base = task.base
    before = {name: p.clone() for name, p in base.lm.named_parameters()}
    for engine in ENGINES.values():
        engine.gradients(task, [Part(units_of(task.objective)[1].rows, 1 / 3)])
    assert all(torch.equal(before[name], p) for name, p in base.lm.named_parameters())
    assert not any(p.requires_grad or p.grad is not None for p in [*base.lm.parameters(), *base.heads.values()])
    assert not any(hasattr(p, "grad_sample") for p in [*base.lm.parameters(), *base.heads.values()])
    assert not any("forward" in vars(module) for module in base.lm.modules())
    assert base.lm.config._attn_implementation != "wardround_rows"


def refused(task: Task[Any], match: str) -> None:
    for engine in ENGINES.values():
        with pytest.raises(TrainingRefused, match=match):
            engine.gradients(task, [Part(units_of(task.objective)[0].rows, 1.0)])


def test_a_base_weight_that_would_train_is_refused() -> None:
    task = task_of(load_base("tiny", "float32"), CompletionLoss())
    parameter = next(iter(task.base.lm.parameters()))
    parameter.requires_grad_(True)
    refused(task, "the base is frozen")


def test_a_tensor_without_a_rule_is_refused() -> None:
    task = task_of(load_base("tiny", "float32"), CompletionLoss())
    foreign = TensorSpec("base_model.model.model.embed_tokens.weight", (600, 64))
    refused(Task(task.base, NAME, (*task.trained, foreign), task.objective), "is not part of the adapter")


def test_another_adapters_tensor_is_refused() -> None:
    task = task_of(load_base("tiny", "float32"), CompletionLoss())
    refused(Task(task.base, NAME, (TensorSpec(HEAD, (1, 64)),), task.objective), "is not part of the adapter")


@pytest.mark.parametrize(
    ("attribute", "value", "match"), [("lora_dropout", 0.5, "dropout"), ("lora_bias", True, "bias"), ("use_dora", True, "variant")]
)
def test_lora_variants_are_refused(attribute: str, value: Any, match: str) -> None:
    task = task_of(load_base("tiny", "float32"), CompletionLoss())
    _, layer = next(iter(task.base.lora_layers()))
    getattr(layer, attribute)[NAME] = torch.nn.Dropout(value) if attribute == "lora_dropout" else value
    refused(task, match)


def test_merged_weights_are_refused() -> None:
    task = task_of(load_base("tiny", "float32"), CompletionLoss())
    _, layer = next(iter(task.base.lora_layers()))
    layer.merge(adapter_names=[NAME])
    refused(task, "merged")


class BatchMean(CompletionLoss):
    """What Hugging Face's `outputs.loss` does: one mean over all tokens of the batch."""

    def losses(self, base: SharedBase, hidden: torch.Tensor, rows: Any, scores: Any) -> torch.Tensor:
        return super().losses(base, hidden, rows, scores).mean()


class Mixing(CompletionLoss):
    """One number a row, and each of them a mean over the batch."""

    def losses(self, base: SharedBase, hidden: torch.Tensor, rows: Any, scores: Any) -> torch.Tensor:
        losses = super().losses(base, hidden, rows, scores)
        return losses.mean().expand(len(rows)) * 1.0


def test_a_loss_that_is_not_one_number_a_row_is_refused() -> None:
    task = task_of(load_base("tiny", "float32"), BatchMean())
    refused(task, "one number a row")


def test_the_probe_passes_what_keeps_units_apart_and_refuses_what_mixes_them(engine: GradientEngine) -> None:
    base = load_base("tiny", "bfloat16")
    probe(task_of(base, CompletionLoss()), engine)
    probe(task_of(base, PairLoss(0.01)), engine)
    mixing = task_of(base, Mixing())
    if engine.isolates:
        with pytest.raises(TrainingRefused, match="moves by"):
            probe(mixing, engine)
    else:
        probe(mixing, engine)  # one unit at a time: nothing to mix with


def test_the_probe_refuses_a_mixing_trunk_under_a_head_that_is_trained_alone() -> None:
    base = load_base("tiny", "bfloat16")
    probe(task_of(base, PairLoss(0.01), Factors.HEAD), HeadEngine())
    base = load_base("tiny", "float32")
    layer = base.lm.base_model.layers[0]
    plain = layer.mlp.forward
    layer.mlp.forward = lambda tokens: plain(tokens) + tokens.mean(1, keepdim=True)
    with pytest.raises(TrainingRefused, match="moves by"):
        probe(task_of(base, PairLoss(0.01), Factors.HEAD), HeadEngine())


class Silent(CompletionLoss):
    """Reads the hidden state and ignores it."""

    def losses(self, base: SharedBase, hidden: torch.Tensor, rows: Any, scores: Any) -> torch.Tensor:
        return super().losses(base, hidden, rows, scores) * 0.0


def test_the_probe_refuses_a_tensor_that_gets_no_gradient() -> None:
    with pytest.raises(TrainingRefused, match="gets no gradient"):
        probe(task_of(load_base("tiny", "float32"), Silent()), FastEngine())


def test_a_row_without_an_answer_is_refused() -> None:
    task = task_of(load_base("tiny", "float32"), CompletionLoss())
    with pytest.raises(TrainingRefused, match="no answer"):
        FastEngine().gradients(task, [Part((Encoded((5, 6, 7), 3),), 1.0)])


def test_a_model_with_windowed_attention_is_refused() -> None:
    task = task_of(load_base("tiny", "float32"), CompletionLoss())
    attention = task.base.lm.base_model.layers[0].self_attn
    original = attention.forward
    attention.forward = partial(original, sliding_window=8)
    with pytest.raises(TrainingRefused, match="sliding_window"):
        FastEngine().gradients(task, [Part(units_of(task.objective)[0].rows, 1.0)])


def test_without_a_store_nothing_is_recorded() -> None:
    task = task_of(load_base("tiny", "float32"), CompletionLoss())
    with recording(task.base, NAME, task.trained, None):
        output = task.base.lm.base_model(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state
    assert not output.requires_grad
