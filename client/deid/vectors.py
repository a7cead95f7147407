"""What company a word keeps: GloVe's vectors of 317,000 English words (`vectors.safetensors`, made by `simulations/ner/make_vectors.py`).

A vector tells a town from a surname and a surname from a drug where no list holds the word: neighbours of "Mazur" are people. Three quarters of the words in
notes that our lists do not know are among them. (n, 102): 100 dimensions with mean 0 and variance 1, whether the word is known, and the logarithm of its
rank between 0 and 1; all zero for a word that is not known.
"""

import hashlib
import json
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from common.errors import StorageError

FILE, MANIFEST = "vectors.safetensors", "names.json"
PARTS, PART, CENTRES = 25, 4, 256
DIMENSIONS = PARTS * PART + 2

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


def checksum(folded: str) -> int:
    """By which a word is found: two words in 14,000 that nobody listed are taken for a listed one."""
    return zlib.crc32(folded.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True, repr=False)
class Vectors:
    """`checksums` (words,) in order, `codes` (words, 25) into `centres` (25, 256, 4), `rarity` (words,)."""

    checksums: NDArray[np.uint32]
    codes: NDArray[np.uint8]
    rarity: NDArray[np.uint8]
    centres: Floats

    def __repr__(self) -> str:
        return f"Vectors(<{len(self.checksums)} words>)"

    def row(self, folded: str) -> int:
        """A word's row from 1; 0 when it is not known."""
        total = np.uint32(checksum(folded))
        at = int(self.checksums.searchsorted(total))
        return at + 1 if at < len(self.checksums) and self.checksums[at] == total else 0

    def of(self, rows: Integers) -> Floats:
        """The vectors of rows (n,), as (n, 102)."""
        found = np.zeros((len(rows), DIMENSIONS), np.float32)
        known = np.flatnonzero(rows)
        at = rows[known] - 1
        found[known, : PARTS * PART] = self.centres[np.arange(PARTS), self.codes[at]].reshape(len(at), PARTS * PART)
        found[known, -2] = 1
        found[known, -1] = self.rarity[at] / 255
        return found


def load(path: Path) -> Vectors:
    tensors = safetensors.numpy.load_file(path)
    return Vectors(tensors["checksums"], tensors["codes"], tensors["rarity"], tensors["centres"].astype(np.float32))


@cache
def vectors() -> Vectors:
    """The shipped vectors, loaded once (10 MB). Raises StorageError when the file is missing or is not the one the code was released with."""
    return load(find_released(FILE))


def find_released(name: str) -> Path:
    """A data file beside this one; an app bundle carries none, and then it is the installed package's. Raises StorageError unless its digest is the one in
    `names.json`, which travels with the code."""
    folders: Sequence[Path] = [Path(__file__).parent, *(Path(entry or ".") / "client" / "deid" for entry in sys.path)]
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        raise StorageError(f"{name} is not installed beside the code; install wardround's wheel, or run `make ner`")
    manifest = json.loads(Path(__file__).with_name(MANIFEST).read_text(encoding="utf-8"))
    if hashlib.sha256(path.read_bytes()).hexdigest() != manifest[name]:
        raise StorageError(f"{path}: is not the file this version was released with; install wardround again, or run `make ner`")
    return path
