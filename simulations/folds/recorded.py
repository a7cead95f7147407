"""Scores on the disk, by prompt and text: a part that was scored once is read, and a kill costs the part under way."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, StorageError
from common.storage import storage_errors, write_atomic

Floats = NDArray[np.float64]
Texts = Sequence[tuple[str, str]]
"""(prompt, answer) of everything that is scored."""
READABLE = 0o644


@dataclass(frozen=True, slots=True)
class Recorded:
    """A member of an ensemble whose scores are known: it looks them up."""

    name: str
    scores: Mapping[tuple[str, str], float] = field(repr=False)

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        try:
            return np.array([self.scores[key] for key in zip(prompts, texts, strict=True)])
        except KeyError:
            raise ConfigError(f"`{self.name}` was not scored on one of {len(texts)} answers") from None


def digest(*parts: object) -> str:
    """SHA-256 over what a part of the work depends on, in hex."""
    return hashlib.sha256("\0".join(hashlib.sha256(str(part).encode()).hexdigest() for part in parts).encode()).hexdigest()


def recorded(folder: Path, name: str, of: str, texts: Texts, score: Callable[[], Mapping[str, Floats]]) -> dict[str, Recorded]:
    """The members that `score` gives, each with a number for every text, in order; from `folder` when they were scored before.

    `of` is the digest of all that the scores depend on besides the texts. Raises StorageError for a file that cannot be read.
    """
    path = folder / f"{name}-{digest(of, *texts)[:16]}.json"
    if path.exists():
        with storage_errors(path, "read the scores"):
            text = path.read_text(encoding="utf-8")
        try:
            return {key: Recorded(key, dict(zip(texts, map(float, values), strict=True))) for key, values in json.loads(text).items()}
        except (ValueError, AttributeError, TypeError):
            raise StorageError(f"{path}: cannot be read; remove it to score these answers again") from None
    found = {key: values.tolist() for key, values in score().items()}
    write_atomic(path, json.dumps(found) + "\n", mode=READABLE)
    return {key: Recorded(key, dict(zip(texts, values, strict=True))) for key, values in found.items()}
