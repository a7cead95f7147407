"""Text that knows which of its characters are identifiers: notes are put together from it, so that gold spans are exact."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Mark:
    """An identifier. `label` is its broad class (NAME, DATE, AGE, LOCATION, ORGANIZATION, PHONE, EMAIL, URL, ID), `kind` the narrow one."""

    text: str
    label: str
    kind: str


@dataclass(frozen=True, slots=True)
class Marked:
    """A sequence of plain pieces and marks."""

    pieces: tuple[str | Mark, ...] = ()

    def __add__(self, other: "Marked | str") -> "Marked":
        return Marked(self.pieces + (other.pieces if isinstance(other, Marked) else (other,)))

    def __str__(self) -> str:
        return "".join(p.text if isinstance(p, Mark) else p for p in self.pieces)

    def __len__(self) -> int:
        return sum(len(p.text if isinstance(p, Mark) else p) for p in self.pieces)

    def spans(self) -> Iterator[dict[str, object]]:
        """{"start", "end", "label", "raw_label"} of every mark; the end is exclusive."""
        at = 0
        for piece in self.pieces:
            length = len(piece.text if isinstance(piece, Mark) else piece)
            if isinstance(piece, Mark):
                yield {"start": at, "end": at + length, "label": piece.label, "raw_label": piece.kind}
            at += length

    def shortened(self, abbreviations: Mapping[str, str]) -> "Marked":
        """Plain pieces with words replaced; marks stay as they are."""

        def shorten(text: str) -> str:
            for word, short in abbreviations.items():
                text = re.sub(rf"\b{re.escape(word)}\b", short, text)
            return text

        return Marked(tuple(p if isinstance(p, Mark) else shorten(p) for p in self.pieces))


def fill(template: str, fields: Mapping[str, str | Mark | Marked]) -> Marked:
    """The template with its {fields} put in. Raises KeyError for a field that is not given."""
    pieces: list[str | Mark] = []
    at = 0
    for match in _FIELD.finditer(template):
        value = fields[match[1]]
        pieces += [template[at : match.start()], *(value.pieces if isinstance(value, Marked) else (value,))]
        at = match.end()
    return Marked(tuple(p for p in [*pieces, template[at:]] if p != ""))


def joined(separator: str, parts: Iterable[Marked]) -> Marked:
    whole = Marked()
    for number, part in enumerate(parts):
        whole = whole + (separator if number else "") + part
    return whole
