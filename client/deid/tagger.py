"""The network of tier 2: which words of a text are somebody's name, a place, an organization, a date or a number. NumPy alone.

    token → sum of embeddings of word, beginning, ending, shape, lists, the gap before it and the company it keeps (`vectors.py`)
          → 4 residual convolutions → softmax over `LABELS`

    h₀ = relu(e₁ + … + e₇ + b₀)        h_k[t] = h_{k−1}[t] + relu(W_k [h_{k−1}[t − d_k], h_{k−1}[t], h_{k−1}[t + d_k]] + b_k),  d = 1, 2, 4, 8

One text at a time, so that what is found in a text never depends on its neighbours in a batch. The weights are trained by `make ner`
(`simulations/ner`) and ship with the package as `names.safetensors`; `names.json`, which travels with the code, holds their digest.

Protects against: a name in running text that no list knows and nothing announces, in English, Spanish and German, in any case.
Does not protect against: other languages; a name that is used like an everyday word; weights that somebody exchanged together with the digest.
"""

import re
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from client.deid.vectors import find_released, vectors
from client.deid.vocabulary.words import LANGUAGES, PARTICLES, TITLES, by_hand, everyday, fold, words

LABELS = ("", "NAME", "LOCATION", "ORGANIZATION", "DATE", "ID")
DILATIONS = (1, 2, 4, 8)
WORD_ROWS, PREFIX_ROWS, SUFFIX_ROWS, SHAPE_ROWS, GAPS = 16_384, 2_048, 4_096, 512, 6
WEIGHTS = "names.safetensors"

TOKEN = re.compile(r"\d+|[^\W\d_]+|[^\w\s]|_")
"""A run of digits, a run of letters, or one other character."""

_SQUEEZE = re.compile(r"(.)\1{2,}")
_LISTS = 17

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text and their features: `rows` (tokens, 6) of word, prefix, suffix, shape, gap, vector; `lists` (tokens, 17) of zeros and ones."""

    starts: list[int]
    ends: list[int]
    rows: Integers
    lists: Floats


def tokens(text: str) -> Tokens:
    """The features of every token."""
    starts, ends, rows, gaps, before = [], [], [], [], 0
    for match in TOKEN.finditer(text):
        start, end = match.span()
        starts.append(start)
        ends.append(end)
        rows.append(_row(match.group()))
        gaps.append(0 if start == before else _gap(text[before:start]))
        before = end
    if not rows:
        return Tokens([], [], np.zeros((0, 6), np.int64), np.zeros((0, _LISTS), np.float32))
    gaps[0] = GAPS - 1
    table = np.array(rows, np.int64)
    return Tokens(starts, ends, np.column_stack([table[:, :4], gaps, table[:, 5]]), _bits(table[:, 4]))


def _gap(between: str) -> int:
    breaks = between.count("\n")
    return 3 if breaks == 1 else 4 if breaks else 2 if len(between) > 1 or between == "\t" else 1


def _bits(packed: Integers) -> Floats:
    return ((packed[:, None] >> np.arange(_LISTS)) & 1).astype(np.float32)


@cache
def _row(token: str) -> tuple[int, int, int, int, int, int]:
    """Rows in the tables of word, prefix, suffix and shape, the lists the word is on as bits of one integer, and its row among the vectors."""
    folded = fold(token)
    if token[0].isdigit():
        word = "0" * min(len(token), 9) if len(token) != 4 or token[:2] not in ("19", "20") else "2000"
        return _hash("w", word, WORD_ROWS), _hash("p", word, PREFIX_ROWS), _hash("s", word, SUFFIX_ROWS), _hash("h", word, SHAPE_ROWS), 0, 0
    shape = _SQUEEZE.sub(r"\1\1", "".join("X" if c.isupper() else "x" if c.isalpha() else c for c in token))
    return (
        _hash("w", folded, WORD_ROWS),
        _hash("p", folded[:3], PREFIX_ROWS),
        _hash("s", folded[-3:], SUFFIX_ROWS),
        _hash("h", shape, SHAPE_ROWS),
        _on_lists(folded),
        vectors().row(folded),
    )


def _hash(table: str, text: str, rows: int) -> int:
    return zlib.crc32(f"{table}{text}".encode("utf-8", "surrogatepass")) % rows


def _on_lists(word: str) -> int:
    lists = words()
    gender = lists.first.get(word)
    on = (
        lists.is_common(word), *(word in everyday(language) for language in LANGUAGES), word in lists.acronyms, lists.is_drug(word),
        word in lists.eponyms, word in lists.eponym_nouns, gender is not None, word in lists.last, word in lists.places, word in lists.place_words,
        word in TITLES, word in PARTICLES, word in by_hand("months_and_days"), word in lists.street_suffixes or word in by_hand("street_words"),
        word in by_hand("facility_words") or word in by_hand("care_words"),
    )  # fmt: skip
    return sum(1 << bit for bit, is_on in enumerate(on) if is_on)


@dataclass(frozen=True, slots=True, repr=False)
class Tagger:
    """The weights, by name: tables `word`, `prefix`, `suffix`, `shape`, `gap`; `lists`, `vectors`, `b0`; `w1`, `b1` … `w4`, `b4`; `out`, `out_bias`."""

    weights: dict[str, Floats]

    def __repr__(self) -> str:
        return f"Tagger(<{sum(w.size for w in self.weights.values())} weights>)"

    def probabilities(self, read: Tokens) -> Floats:
        """(tokens, labels) that sum to one along labels."""
        w, rows = self.weights, read.rows
        if not len(rows):
            return np.zeros((0, len(LABELS)), np.float32)
        hidden = w["word"][rows[:, 0]] + w["prefix"][rows[:, 1]] + w["suffix"][rows[:, 2]] + w["shape"][rows[:, 3]] + w["gap"][rows[:, 4]]
        hidden += read.lists @ w["lists"] + vectors().of(rows[:, 5]) @ w["vectors"]
        hidden = np.maximum(hidden + w["b0"], 0)
        for k, dilation in enumerate(DILATIONS, 1):
            padded = np.pad(hidden, ((dilation, dilation), (0, 0)))
            window = np.concatenate([padded[: -2 * dilation], hidden, padded[2 * dilation :]], axis=1)
            hidden = hidden + np.maximum(window @ w[f"w{k}"] + w[f"b{k}"], 0)
        scores = hidden @ w["out"] + w["out_bias"]
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float32)


def load(path: Path) -> Tagger:
    """The weights of a file of half-precision tensors."""
    return Tagger({name: tensor.astype(np.float32) for name, tensor in safetensors.numpy.load_file(path).items()})


@cache
def tagger() -> Tagger:
    """The shipped network, loaded once. Raises StorageError when its file is missing or is not the one the code was released with."""
    return load(find_released(WEIGHTS))
