"""What a reward's head reads of every answer, computed once: the layers under it are the same in every fold, so trying another adaptation takes seconds.

OUT/states-NAME-….safetensors   ends (texts, width), likelihood (texts,) under the public preference model
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from client.train.engines import Part, Task, backward
from client.train.lora_grads import UnitStore
from client.train.objectives import PairLoss, ReadScores
from common.adapters import HEAD, Adapter
from common.config import ModelConfig
from common.errors import StorageError, TrainingRefused
from common.models import LIKELIHOOD_SCALE, SharedBase
from common.storage import storage_errors, write_atomic
from server.align.members import SCORING_TOKENS
from server.align.passes import passes, token_batches
from simulations.folds.recorded import READABLE, Floats, Recorded, Texts, digest

R = TypeVar("R")
_NAME = "states"


@dataclass(frozen=True, slots=True)
class States:
    """ends (texts, width) float32; offset (texts,): the part of the score that no head changes, 0 for a reward that reads the answer."""

    texts: Texts = field(repr=False)
    ends: np.ndarray = field(repr=False)
    offset: Floats = field(repr=False)

    def member(self, name: str, adapter: Adapter) -> Recorded:
        """The member with that adapter's head, on all texts."""
        scores = self.offset + self.ends.astype(np.float64) @ adapter.tensors[HEAD][0].astype(np.float64)
        return Recorded(name, dict(zip(self.texts, scores.tolist(), strict=True)))

    def pair(self, prompt: str, better: str, worse: str, places: Mapping[tuple[str, str], int]) -> "StatePair":
        at = [places[prompt, better], places[prompt, worse]]
        return StatePair(torch.from_numpy(self.ends[at]), float(self.offset[at[0]] - self.offset[at[1]]))


def states(folder: Path, name: str, base: SharedBase, start: Adapter, texts: Texts, model: ModelConfig) -> States:
    """The states of `texts` under `start`, from `folder` when they were computed before. Raises StorageError for a file that cannot be read."""
    of = digest(base.digest, start.digest, model.max_prompt_tokens, model.max_answer_tokens, *texts)
    path = folder / f"states-{name}-{of[:16]}.safetensors"
    if not path.exists():
        write_atomic(path, save(_computed(base, start, texts, model)), mode=READABLE)
    with storage_errors(path, "read the states"):
        data = path.read_bytes()
    try:
        found = load(data)
        return States(texts, found["ends"], found["offset"].astype(np.float64))
    except (SafetensorError, KeyError):
        raise StorageError(f"{path}: cannot be read; remove it to compute these states again") from None


def together(parts: Sequence[States]) -> States:
    """All texts of `parts`, each once."""
    places = {text: (part, row) for part in parts for row, text in enumerate(part.texts)}
    ends = np.stack([part.ends[row] for part, row in places.values()])
    return States(list(places), ends, np.array([part.offset[row] for part, row in places.values()]))


def _computed(base: SharedBase, start: Adapter, texts: Texts, model: ModelConfig) -> dict[str, np.ndarray]:
    base.put(_NAME, start)
    bounds = {"max_prompt_tokens": model.max_prompt_tokens, "max_answer_tokens": model.max_answer_tokens}
    rows = [base.encode_for(start.spec.config, prompt, text, **bounds) for prompt, text in texts]
    ends, offset = np.empty((len(rows), base.hidden_size), np.float32), np.zeros(len(rows))
    for batch in token_batches([len(row.ids) for row in rows], SCORING_TOKENS):
        with passes(base, _NAME), torch.inference_mode():
            of_batch, likelihood = base.ends(_NAME, [rows[i] for i in batch])
        ends[batch] = of_batch.float().cpu().numpy()
        if likelihood is not None:
            offset[batch] = LIKELIHOOD_SCALE * likelihood.double().cpu().numpy()
    base.drop(_NAME)
    return {"ends": ends, "offset": offset}


@dataclass(frozen=True, slots=True, repr=False)
class StatePair:
    """A pair as its head sees it. ends (2, width), the better answer first; offset is what the better one is ahead without a head."""

    ends: Tensor
    offset: float
    weight: float = 1.0
    tie: bool = False

    def __repr__(self) -> str:
        return "StatePair(<hidden>)"


class StateLoss(PairLoss):
    """The reward stage's loss on states: what `PairLoss` and `QuestionPairLoss` compute of a pair whose layers have run."""

    def sequences(self, row: StatePair) -> Sequence[tuple[int, ...]]:  # type: ignore[override]  # no tokens are left to run
        del row
        return []

    def losses(self, base: SharedBase, hidden: Tensor, rows: Sequence[StatePair], scores: ReadScores) -> Tensor:  # type: ignore[override]  # the same
        del base
        of_head = scores(hidden, [i for i in range(len(rows)) for _ in range(2)]).view(-1, 2)
        ahead = torch.tensor([row.offset for row in rows], dtype=of_head.dtype, device=of_head.device)
        weight = torch.tensor([row.weight for row in rows], dtype=of_head.dtype, device=of_head.device)
        fit = -self._log_likelihood(of_head[:, 0] - of_head[:, 1] + ahead, [row.tie for row in rows]) * weight
        return fit + self.centring * of_head.square().sum(1) / 2


class StateEngine:
    """Gradients of the head from states; no layer runs."""

    isolates = True

    def gradients(self, task: Task[R], parts: Sequence[Part[R]]) -> Tensor:
        read = [row.ends for part in parts for row in part.rows if isinstance(row, StatePair)]
        if len(read) < sum(len(part.rows) for part in parts):
            raise TrainingRefused("states are all that is known here; give pairs of states")
        hidden = torch.cat(read).to(task.base.device)
        store = UnitStore(task.trained, [(0, 0)] * len(parts), task.gradient_dtype, task.base.device)
        head = task.base.heads[task.adapter].requires_grad_(True)
        backward(task, parts, hidden, store)
        head.requires_grad_(False)
        return store.flat
