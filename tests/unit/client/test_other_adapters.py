"""The fast engine on a base that carries other adapters too, as the coordinator's and the hospitals' do in one process."""

import numpy as np
import pytest
import torch

from client.train.lora_grads import recording
from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig, Factors


def test_layers_that_only_another_adapter_wraps_are_plain() -> None:
    base = load_base("tiny", "float32")
    rng = np.random.default_rng(0)
    for name, config in (("everywhere", AdapterConfig(rank=2, factors=Factors.LORA)), ("upper", AdapterConfig(rank=2, last_layers=1))):
        spec = base.spec(config)
        base.put(name, Adapter(spec, {t.name: rng.normal(scale=0.1, size=t.shape).astype(np.float32) for t in spec.tensors}))
    batch = base.pad([base.encode_prompt("I have had a cough for three days.", 40)])
    with torch.inference_mode(), base.using("upper"):
        expected = base.hidden(batch)
    with torch.inference_mode(), recording(base, "upper", (), None):
        found = base.hidden(batch)
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
