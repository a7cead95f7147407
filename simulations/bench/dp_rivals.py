"""The steps that `dp.py` compares, on one base model in one process. Each method prepares a rival and gives out its step.

The rivals are written as their libraries' users write them, at their best: no mask where no row is padded, the answer's states flattened
before the LM head, a loss for each row, bfloat16 autocast over float32 adapters.
"""

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn

from client.train.dp_sgd import private_step
from client.train.engines import FastEngine, Task, UnitRows
from client.train.objectives import CompletionLoss
from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig, Factors
from common.models import Encoded
from common.privacy.mechanism import Mechanism, Unit
from common.secure.fixedpoint import grid_step
from simulations.bench.measure import Work

RANK, ALPHA, LEARNING_RATE = 8, 16.0, 1e-4
CLIP_NORM, NOISE_MULTIPLIER = 1.0, 1.0
NAME = "bench"
SITES = 8


class Bench:
    """A base model with one LoRA adapter on all its projections, and the rows that every rival trains on."""

    def __init__(self, base: str, row_tokens: int) -> None:
        self.base = load_base(base)
        self.row_tokens = row_tokens
        self.spec = self.base.spec(AdapterConfig(rank=RANK, alpha=ALPHA, factors=Factors.FFA))
        draws = np.random.Generator(np.random.PCG64(0))
        tensors = {t.name: draws.normal(0, 0.02, t.shape).astype(np.float32) for t in self.spec.tensors}
        self.base.put(NAME, Adapter(self.spec, tensors))
        self._draws = draws

    def step(self, rival: str, batch: int) -> Work:
        """A whole training step of the rival of that name, on rows of its own."""
        steps = {
            "ours": self.ours,
            "nonprivate": self.nonprivate,
            "nonprivate_ffa": self.nonprivate_ffa,
            "opacus_hooks": self.opacus_hooks,
            "opacus_ghost": self.opacus_ghost,
        }
        return steps[rival](batch)

    def rows(self, count: int) -> list[Encoded]:
        vocabulary = int(self.base.lm.config.vocab_size)
        ids = self._draws.integers(3, vocabulary, (count, self.row_tokens))
        return [Encoded(tuple(map(int, row)), self.row_tokens // 2) for row in ids]

    # -- ours ----------------------------------------------------------------------------------------------------------

    def ours(self, batch: int) -> Work:
        rows = self.rows(batch)
        task = Task(self.base, NAME, self.spec.trained(0), CompletionLoss())
        mechanism = Mechanism(NOISE_MULTIPLIER, 0.1, CLIP_NORM, float(batch), Unit.PATIENT)
        units = [UnitRows((row,)) for row in rows]
        grid = grid_step(CLIP_NORM)
        parameters = [self.base.parameters(NAME)[tensor.name] for tensor in task.trained]
        optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE)

        def step() -> None:
            result = private_step(
                task, FastEngine(), units, mechanism, key=bytes(32), grid=grid, sites=SITES, token_budget=batch * self.row_tokens
            )
            move = torch.from_numpy(result.words.astype(np.float32)).mul_(-grid / batch)
            for parameter, part in zip(parameters, move.split([p.numel() for p in parameters]), strict=True):
                parameter.grad = part.view_as(parameter)
            optimizer.step()
            optimizer.zero_grad()

        return step

    # -- rivals --------------------------------------------------------------------------------------------------------

    def nonprivate(self, batch: int) -> Work:
        return self._peft(batch, self._weights("lora_A", "lora_B"))

    def nonprivate_ffa(self, batch: int) -> Work:
        return self._peft(batch, self._weights("lora_B"))

    def _peft(self, batch: int, parameters: list[nn.Parameter]) -> Work:
        rows = self.rows(batch)
        optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE)

        def step() -> None:
            with _training(parameters):
                self._losses(rows).mean().backward()
                optimizer.step()
                optimizer.zero_grad()

        return step

    def opacus_hooks(self, batch: int) -> Work:
        rows, parameters = self.rows(batch), self._weights("lora_A", "lora_B")
        with _training(parameters):  # Opacus prepares what requires a gradient now
            plain = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
            optimizer = DPOptimizer(plain, noise_multiplier=NOISE_MULTIPLIER, max_grad_norm=CLIP_NORM, expected_batch_size=batch)

        def step() -> None:
            with _training(parameters), warnings.catch_warnings():
                # The lowest adapter's input needs no gradient; torch warns that the hook fires all the same, which is what is wanted.
                warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
                hooks = GradSampleHooks(self._layers(), loss_reduction="mean")
                self._losses(rows).mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                hooks.cleanup()

        return step

    def opacus_ghost(self, batch: int) -> Work:
        rows, parameters = self.rows(batch), self._weights("lora_A", "lora_B")
        with _training(parameters):  # Opacus prepares what requires a gradient now
            plain = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
            optimizer = DPOptimizerFastGradientClipping(
                plain, noise_multiplier=NOISE_MULTIPLIER, max_grad_norm=CLIP_NORM, expected_batch_size=batch
            )

        def step() -> None:
            with _training(parameters), warnings.catch_warnings():
                # The lowest adapter's input needs no gradient; torch warns that the hook fires all the same, which is what is wanted.
                warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
                hooks = GradSampleHooksFastGradientClipping(self._layers(), loss_reduction="mean", max_grad_norm=CLIP_NORM)
                losses = self._losses(rows)  # one dimension: of (n, 1) the clipping coefficients would make (n, n)
                DPTensorFastGradientClipping(hooks, optimizer, losses, loss_reduction="mean").backward()
                optimizer.step()
                optimizer.zero_grad()
                hooks.cleanup()

        return step

    # -- what the rivals share -----------------------------------------------------------------------------------------

    def _weights(self, *factors: str) -> list[nn.Parameter]:
        return [p for key, p in self.base.parameters(NAME).items() if any(f".{factor}." in key for factor in factors)]

    def _layers(self) -> nn.ModuleList:
        """PEFT's own little layers, in training mode, which is what Opacus records."""
        layers = [layer for _, lora in self.base.lora_layers() for layer in (lora.lora_A[NAME], lora.lora_B[NAME])]
        return nn.ModuleList(layers).train()

    def _losses(self, rows: list[Encoded]) -> Tensor:
        """Mean token loss of each row's answer (rows,), through PEFT's forward pass."""
        ids = torch.tensor([row.ids for row in rows])
        start = rows[0].prompt_length
        with torch.autocast("cpu", torch.bfloat16), self.base.using(NAME):
            hidden = self.base.lm.base_model(input_ids=ids, use_cache=False).last_hidden_state
            # Flattened to two dimensions first: on three, torch copies the whole LM head once a row.
            logits = self.base.logits(hidden[:, start - 1 : -1].flatten(0, 1))
        losses = nn.functional.cross_entropy(logits.float(), ids[:, start:].flatten(), reduction="none")
        return losses.view(len(rows), -1).mean(1)


@contextlib.contextmanager
def _training(parameters: list[nn.Parameter]) -> Iterator[None]:
    """`requires_grad` on `parameters` inside, off and without gradients outside."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
