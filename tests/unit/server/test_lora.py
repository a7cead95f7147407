"""The LoRA projection as one operation, against PEFT's own forward on the same layers."""

import numpy as np
import torch

from common.bases import load_base
from common.config import AdapterConfig
from server.align.lora import Projection
from server.align.passes import passes


def test_values_and_gradients_equal_pefts() -> None:
    base = load_base("tiny", "float64")
    spec = base.spec(AdapterConfig(rank=3, alpha=5.0))
    draws = np.random.default_rng(0)
    base.put("policy", spec.initial().with_vector(draws.normal(0, 0.3, spec.size()).astype(np.float32)))
    base.put("other", base.spec(AdapterConfig(rank=2, targets=("q_proj",), last_layers=1)).initial())
    batch = base.pad([base.encode_prompt(text, 48) for text in ("Fever", "A rash that does not fade")])
    real = batch.mask.bool()
    parameters = base.parameters("policy")
    for parameter in parameters.values():
        parameter.data = parameter.data.double()
        parameter.requires_grad_(True)
    found = []
    for ours in (True, False):
        base.lm.set_attn_implementation("eager")
        with passes(base, "policy", gradients=True) if ours else base.using("policy"):
            hidden = base.hidden(batch)[real]
        hidden.square().sum().backward()
        found.append((hidden.detach(), {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}))
        for parameter in parameters.values():
            parameter.grad = None
    (mine, my_grads), (pefts, pefts_grads) = found
    assert torch.allclose(mine, pefts, atol=1e-12)
    assert my_grads.keys() == pefts_grads.keys() == parameters.keys()
    for name, grad in my_grads.items():
        # ∂A and ∂B are handed over in float32, as the adapters are stored.
        assert torch.allclose(grad, pefts_grads[name], rtol=1e-5, atol=1e-5 * float(pefts_grads[name].abs().max())), name


def test_layers_without_the_adapter_are_the_frozen_ones() -> None:
    base = load_base("tiny", "float32")
    base.put("upper", base.spec(AdapterConfig(rank=2, last_layers=1)).initial())
    x = torch.randn(2, 64)
    (_, layer), *_ = base.lora_layers()
    assert torch.equal(Projection(layer, None)(x), layer.get_base_layer()(x))
    assert torch.equal(Projection(layer, "unknown here")(x), layer.get_base_layer()(x))
