"""The names network in torch, trained and written as the tensors that `client/deid/tagger.py` reads. Same seed, same machine: same file."""

import hashlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client.deid import tagger, vectors
from client.deid.tagger import DILATIONS, GAPS, LABELS, PREFIX_ROWS, SHAPE_ROWS, SUFFIX_ROWS, WORD_ROWS
from common.progress import Progress
from simulations.ner.compose import UNLEARNED, Composer, Example, public_sentences

WIDTH, LISTS = 128, 17
FORGET_WORD, FORGET_OTHER_WORD, FORGET_LISTS, DROPOUT = 0.7, 0.5, 0.35, 0.15
"""Shares of the tokens whose word is hidden in training, in identifiers and elsewhere; of the identifiers' whose place on lists is; of all units
that are dropped. A network that may look at the words themselves learns the training texts by heart."""

FORGET_VECTOR, FORGET_OTHER_VECTOR, FORGET_AFFIX = 0.2, 0.08, 0.25
"""Shares of the tokens of identifiers, and of the others, whose vector is hidden; of all whose beginning, and whose ending."""

_CENTRE, _BATCH_TOKENS = 1, 2_500
_NAME_LISTS = (8, 9, 10, 11)


class Network(nn.Module):
    """As `client/deid/tagger.py` writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = [nn.Embedding(rows, WIDTH) for rows in (WORD_ROWS, PREFIX_ROWS, SUFFIX_ROWS, SHAPE_ROWS, GAPS)]
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.1)
        self.lists = nn.Linear(LISTS, WIDTH)
        self.vectors = nn.Linear(vectors.DIMENSIONS, WIDTH, bias=False)
        self.convolutions = [nn.Linear(3 * WIDTH, WIDTH) for _ in DILATIONS]
        self.registered = nn.ModuleList([*self.tables, *self.convolutions])
        self.out = nn.Linear(WIDTH, len(LABELS))
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, rows: Tensor, lists: Tensor, company: Tensor, inside: Tensor) -> Tensor:
        """rows (texts, time, 5), lists (texts, time, 17), company (texts, time, 102), inside (texts, time, 1) → scores (texts, time, labels)."""
        hidden = sum((table(rows[..., i]) for i, table in enumerate(self.tables)), self.lists(lists) + self.vectors(company))
        hidden = self.drop(torch.relu(hidden)) * inside
        for dilation, layer in zip(DILATIONS, self.convolutions, strict=True):
            padded = nn.functional.pad(hidden, (0, 0, dilation, dilation))
            window = torch.cat([padded[:, : -2 * dilation], hidden, padded[:, 2 * dilation :]], dim=-1)
            hidden = (hidden + self.drop(torch.relu(layer(window)))) * inside
        scores: Tensor = self.out(hidden)
        return scores

    def tensors(self) -> dict[str, NDArray[np.float16]]:
        found = {name: table.weight for name, table in zip(("word", "prefix", "suffix", "shape", "gap"), self.tables, strict=True)}
        found |= {
            "lists": self.lists.weight.T,
            "b0": self.lists.bias,
            "vectors": self.vectors.weight.T,
            "out": self.out.weight.T,
            "out_bias": self.out.bias,
        }
        for k, layer in enumerate(self.convolutions, 1):
            found |= {f"w{k}": layer.weight.T, f"b{k}": layer.bias}
        return {name: np.ascontiguousarray(tensor.detach().numpy().astype(np.float16)) for name, tensor in found.items()}


def train(data: Path | None, target: Path, *, texts: int, epochs: int, seed: int, progress: Progress) -> dict[str, float]:
    """Train on `texts` composed texts and write the weights and their manifest into `target`. Returns figures of the last epoch."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    composer = Composer(rng, public_sentences(data, rng, most=10_000), data)
    progress.start("compose training texts", texts)
    examples = []
    for _ in range(texts):
        examples.append(composer.example())
        progress.advance()
    network = Network()
    steps = epochs * len(list(_batches(examples, random.Random(seed))))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps + epochs * 50, pct_start=0.1)
    progress.start("train the names network", steps)
    began, loss_sum, seen = time.process_time(), 0.0, 0
    for epoch in range(epochs):
        loss_sum, seen = 0.0, 0
        for batch in _batches(examples, rng):
            rows, lists, company, labels, inside = _tensors(batch, rng)
            scores = network(rows, lists, company, inside)
            loss = nn.functional.cross_entropy(
                scores[inside[..., 0] > 0], labels[inside[..., 0] > 0], ignore_index=UNLEARNED, label_smoothing=0.01
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            loss_sum, seen = loss_sum + float(loss.detach()), seen + 1
            progress.advance()
        del epoch
    _write(network, target)
    return {"texts": texts, "loss": loss_sum / seen, "cpu_seconds": time.process_time() - began}


def _write(network: Network, target: Path) -> None:
    path = target / tagger.WEIGHTS
    safetensors.numpy.save_file(network.tensors(), path)
    record_digests(target, vectors.find_released(vectors.FILE))


def record_digests(folder: Path, company: Path) -> None:
    """Writes the manifest of a folder's weights and of the vectors they were trained on."""
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (folder / tagger.WEIGHTS, company)}
    (folder / vectors.MANIFEST).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def _batches(examples: list[Example], rng: random.Random) -> Iterator[list[Example]]:
    """All examples once, texts of like length together, in random order."""
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i].labels), rng.random()))
    batches: list[list[Example]] = [[]]
    for i in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(examples[i].labels) > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(examples[i])
    rng.shuffle(batches)
    yield from batches


def _tensors(batch: list[Example], rng: random.Random) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    longest = max(len(example.labels) for example in batch)
    rows = np.zeros((len(batch), longest, 6), np.int64)
    lists = np.zeros((len(batch), longest, LISTS), np.float32)
    labels = np.zeros((len(batch), longest), np.int64)
    inside = np.zeros((len(batch), longest, 1), np.float32)
    for i, example in enumerate(batch):
        n = len(example.labels)
        rows[i, :n], lists[i, :n], labels[i, :n], inside[i, :n] = example.tokens.rows, example.tokens.lists, example.labels, 1
    draw = np.random.default_rng(rng.getrandbits(64))
    forget = np.where(labels > 0, FORGET_WORD, FORGET_OTHER_WORD) > draw.random(labels.shape)
    rows[..., 0][forget] = 0
    for affix in (1, 2):
        rows[..., affix][draw.random(labels.shape) < FORGET_AFFIX] = 0
    hidden = (labels > 0) & (draw.random(labels.shape) < FORGET_LISTS)
    for bit in _NAME_LISTS:
        lists[..., bit][hidden] = 0
    rows[..., 5][draw.random(labels.shape) < np.where(labels > 0, FORGET_VECTOR, FORGET_OTHER_VECTOR)] = 0
    company = vectors.vectors().of(rows[..., 5].reshape(-1)).reshape(*labels.shape, vectors.DIMENSIONS)
    read = torch.from_numpy
    return read(rows[..., :5]), read(lists), read(company), read(labels), read(inside)
