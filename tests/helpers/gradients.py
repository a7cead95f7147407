"""Units whose gradients a test writes down: the whole private step around them is the product's own."""

from collections.abc import Sequence
from typing import Any

import torch

from client.train.engines import Part, Task, UnitRows
from common.bases import shared_base


class Given:
    """An engine whose rows are their own gradients: a vector, or (coordinate, value) for a vector with one number that is not 0."""

    isolates = True

    def gradients(self, task: Task[Any], parts: Sequence[Part[Any]]) -> torch.Tensor:
        found = torch.zeros(len(parts), task.dimensions)
        places: list[tuple[int, int, float]] = []
        for i, part in enumerate(parts):
            for row in part.rows:
                if isinstance(row, torch.Tensor):
                    found[i] += part.weight * row
                else:
                    places.append((i, row[0], part.weight * row[1]))
        if places:
            units, coordinates, values = zip(*places, strict=True)
            found.index_put_((torch.tensor(units), torch.tensor(coordinates)), torch.tensor(values), accumulate=True)
        return found


class Width:
    """All that the private step needs of a task when gradients are given: d numbers, one token a row."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions, self.base = dimensions, shared_base("tiny", "float32")

    def tokens(self, row: Any) -> int:
        return 1


class Listed:
    """Unit data in memory: rows[u] are the rows of unit u."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self._rows = rows

    def digest(self) -> str:
        return "0" * 64

    def units(self) -> list[int]:
        return list(range(len(self._rows)))

    def rows(self, unit: int) -> Sequence[Any]:
        return self._rows[unit]


def all_of(data: Listed) -> list[UnitRows[Any]]:
    return [UnitRows(tuple(data.rows(unit))) for unit in data.units()]
