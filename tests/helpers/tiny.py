"""The tiny base with random adapters on it, for tests that need models and not what they say."""

from collections.abc import Mapping

import numpy as np

from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig, Factors
from common.models import SharedBase


def tiny_with(deviations: Mapping[str, float]) -> SharedBase:
    """A fresh base with one LoRA adapter a name, its numbers drawn with this deviation; the same ones every time."""
    base = load_base("tiny", "float32")
    spec = base.spec(AdapterConfig(rank=2, factors=Factors.LORA))
    rng = np.random.default_rng(0)
    for name, deviation in deviations.items():
        base.put(name, Adapter(spec, {t.name: rng.normal(scale=deviation, size=t.shape).astype(np.float32) for t in spec.tensors}))
    return base
