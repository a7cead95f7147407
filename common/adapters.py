"""A LoRA adapter as plain arrays: names and shapes, one flat vector for the federation, PEFT's own files on disk.

No torch here: the coordinator aggregates adapters, and a privacy officer can read this file with NumPy in mind.
Folders written by `Adapter.save` open with `peft.PeftModel.from_pretrained`; `wardround.json` beside PEFT's two files
keeps what PEFT has no field for (which factor is trained, the public seed).
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from common.config import AdapterConfig, Factors
from common.errors import ModelUnavailable, NotFinite, ShapeError

HEAD = "base_model.model.score.weight"
"""PEFT's name of a sequence classifier's head, so that a reward adapter loads on `AutoModelForSequenceClassification`."""

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name (PEFT's) and shape of one tensor of an adapter."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """The tensors of an adapter on one base model, in the order of the flat vector (sorted by name).

    layers lists the base's layers that carry the adapter, and `head` says whether a scalar reward head belongs to it.
    A layer that is trained whole is a LoRA layer too: A is the identity and stays, B is the full matrix, and the scale is 1.
    """

    base: str
    config: AdapterConfig
    tensors: tuple[TensorSpec, ...]
    layers: tuple[int, ...]
    head: bool
    fan_in_fan_out: bool = False

    def trained(self, round_number: int = 0) -> tuple[TensorSpec, ...]:
        """The tensors that round `round_number` trains: `lora_B` under FFA, one factor after the other under RoLoRA, and always the head
        (alone under HEAD)."""
        factors: tuple[str, ...]
        match self.config.factors:
            case Factors.FFA:
                factors = (".lora_B.",)
            case Factors.ROLORA:
                factors = (".lora_B.",) if round_number % 2 == 0 else (".lora_A.",)
            case Factors.LORA:
                factors = (".lora_A.", ".lora_B.")
            case Factors.HEAD:
                factors = ()
        whole = {False: factors, True: (".lora_B.",) if factors else ()}
        return tuple(t for t in self.tensors if t.name == HEAD or any(f in t.name for f in whole[self.is_whole(t)]))

    def is_whole(self, tensor: TensorSpec) -> bool:
        """Whether this factor belongs to a layer that is trained whole."""
        return any(f".{target}.lora_" in tensor.name for target in self.config.whole)

    def whole_ranks(self) -> dict[str, int]:
        """The base's own name of every layer that is trained whole → its width: the rank, and the α, that PEFT needs to know."""
        ends = ("base_model.model.", ".lora_A.weight")
        factors = (t for t in self.tensors if self.is_whole(t) and t.name.endswith(ends[1]))
        return {t.name.removeprefix(ends[0]).removesuffix(ends[1]): t.shape[0] for t in factors}

    def size(self, round_number: int = 0) -> int:
        """Length of the flat vector of the trained tensors."""
        return sum(t.size for t in self.trained(round_number))

    def initial(self) -> "Adapter":
        """A uniform in ±1/√in (PEFT's own default), or the identity where the layer is whole; B zero, head small. All from the public seed:
        every site starts from the same bytes. A head beside the question's likelihood is zero: the start is that likelihood.
        """
        draws = np.random.Generator(np.random.PCG64(self.config.seed))
        tensors: dict[str, Vector] = {}
        for tensor in self.tensors:
            if ".lora_A." in tensor.name and self.is_whole(tensor):
                tensors[tensor.name] = np.eye(tensor.shape[0], dtype=np.float32)
            elif ".lora_A." in tensor.name:
                bound = 1 / math.sqrt(tensor.shape[1])
                tensors[tensor.name] = draws.uniform(-bound, bound, tensor.shape).astype(np.float32)
            elif tensor.name == HEAD and self.config.reads == "answer":
                # A head of zeros would pass no gradient to the adapter below it.
                tensors[tensor.name] = (draws.standard_normal(tensor.shape) * 0.02).astype(np.float32)
            else:
                tensors[tensor.name] = np.zeros(tensor.shape, np.float32)
        return Adapter(self, tensors)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A spec and its tensors (float32). Raises ShapeError unless names and shapes are the spec's."""

    spec: AdapterSpec
    tensors: Mapping[str, Vector]

    def __post_init__(self) -> None:
        expected = {t.name: t.shape for t in self.spec.tensors}
        found = {name: array.shape for name, array in self.tensors.items()}
        if expected != found:
            wrong = sorted(set(expected.items()) ^ set(found.items()))[0][0]
            raise ShapeError(
                f"the adapter does not fit its base model `{self.spec.base}`: tensor `{wrong}` is missing, unknown or of another shape"
            )

    def __repr__(self) -> str:
        return f"Adapter({self.spec.base}, {len(self.tensors)} tensors, {self.digest[:12]})"

    def vector(self, round_number: int = 0) -> Vector:
        """The trained tensors of a round, concatenated in the spec's order."""
        return np.concatenate([self.tensors[t.name].ravel() for t in self.spec.trained(round_number)])

    def with_vector(self, vector: Vector, round_number: int = 0) -> "Adapter":
        """This adapter with the trained tensors of a round replaced. Raises ShapeError on another length and NotFinite on NaN or infinity."""
        if vector.shape != (self.spec.size(round_number),):
            raise ShapeError(f"the vector has shape {vector.shape}; the adapter trains {self.spec.size(round_number)} numbers")
        if not np.isfinite(vector).all():
            raise NotFinite(
                f"{int((~np.isfinite(vector)).sum())} of {vector.size} numbers of the update are not finite; the adapter stays as it was"
            )
        tensors, start = dict(self.tensors), 0
        for tensor in self.spec.trained(round_number):
            tensors[tensor.name] = vector[start : start + tensor.size].reshape(tensor.shape).astype(np.float32)
            start += tensor.size
        return Adapter(self.spec, tensors)

    @property
    def digest(self) -> str:
        """SHA-256 over names, shapes and bytes, in hex."""
        sha = hashlib.sha256()
        for tensor in self.spec.tensors:
            sha.update(f"{tensor.name}{tensor.shape}".encode())
            sha.update(np.ascontiguousarray(self.tensors[tensor.name], dtype="<f4").tobytes())
        return sha.hexdigest()

    def save(self, folder: Path) -> None:
        """Write `adapter_model.safetensors`, `adapter_config.json` (PEFT's) and `wardround.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: np.ascontiguousarray(array) for name, array in self.tensors.items()},
            folder / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
        spec = self.spec
        peft_config = {
            "peft_type": "LORA",
            "task_type": "SEQ_CLS" if spec.head else "CAUSAL_LM",
            "base_model_name_or_path": spec.base,
            "r": spec.config.rank,
            "lora_alpha": spec.config.alpha,
            "rank_pattern": spec.whole_ranks(),
            "alpha_pattern": spec.whole_ranks(),
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted(spec.config.targets),
            "layers_to_transform": list(spec.layers),
            "fan_in_fan_out": spec.fan_in_fan_out,
            "modules_to_save": ["score"] if spec.head else None,
            "inference_mode": True,
        }
        ours = {"adapter": spec.config.model_dump(mode="json"), "head": spec.head, "layers": list(spec.layers)}
        (folder / "adapter_config.json").write_text(json.dumps(peft_config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (folder / "wardround.json").write_text(json.dumps(ours, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Adapter":
        """Read a folder that `save` wrote. Raises ModelUnavailable naming the folder when it is not one."""
        try:
            peft_config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            ours = json.loads((folder / "wardround.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "adapter_model.safetensors")
            spec = AdapterSpec(
                base=peft_config["base_model_name_or_path"],
                config=AdapterConfig.model_validate(ours["adapter"]),
                tensors=tuple(TensorSpec(name, tuple(tensors[name].shape)) for name in sorted(tensors)),
                layers=tuple(ours["layers"]),
                head=ours["head"],
                fan_in_fan_out=peft_config["fan_in_fan_out"],
            )
        except (OSError, KeyError, ValueError, TypeError, AttributeError, SafetensorError) as error:
            raise ModelUnavailable(
                f"{folder}: not an adapter of Wardround ({type(error).__name__}); expected adapter_config.json, adapter_model.safetensors and wardround.json"
            ) from None
        return cls(spec, tensors)
