"""Where the lines of a file stand and which belong together: 32 bytes a line, whatever the lines hold.

Patients' and notes' ids are kept as 8 bytes of a keyed digest, so that an export of a gigabyte needs some tens of megabytes here.
"""

from __future__ import annotations  # `array` takes its type only in annotations

import secrets
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

import numpy as np


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the input: its number from 1, its offset in bytes, its rank among the lines that are not blank."""

    number: int
    offset: int
    rank: int


@dataclass(slots=True)
class LineIndex:
    """Filled line by line, then read group by group. The key of the digests is drawn anew each time."""

    _key: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    _numbers: array[int] = field(default_factory=lambda: array("q"))
    _offsets: array[int] = field(default_factory=lambda: array("q"))
    _groups: array[int] = field(default_factory=lambda: array("Q"))
    _ids: array[int] = field(default_factory=lambda: array("Q"))

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int, offset: int, line_id: str, group: str) -> None:
        """A line; without a group it is one of its own."""
        self._numbers.append(number)
        self._offsets.append(offset)
        self._ids.append(self._digest(f"id {line_id}"))
        self._groups.append(self._digest(f"group {group}" if group else f"line {number}"))

    def _digest(self, text: str) -> int:
        return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key).digest(), "big")

    def repeated(self) -> int | None:
        """The number of the first line whose id stands on an earlier line as well."""
        ids = np.frombuffer(self._ids, np.uint64) if len(self) else np.zeros(0, np.uint64)
        order = np.argsort(ids, kind="stable")
        again = order[1:][ids[order][1:] == ids[order][:-1]]
        return None if not len(again) else self._numbers[int(again.min())]

    def groups(self) -> Iterator[list[Place]]:
        """The lines of each group in order, groups in the order of their first line."""
        if not len(self):
            return
        groups = np.frombuffer(self._groups, np.uint64)
        order = np.argsort(groups, kind="stable")
        borders = [0, *(np.flatnonzero(np.diff(groups[order])) + 1).tolist(), len(order)]
        spans = sorted(pairwise(borders), key=lambda span: int(order[span[0]]))
        for start, end in spans:
            yield [Place(self._numbers[rank], self._offsets[rank], rank) for rank in order[start:end].tolist()]
