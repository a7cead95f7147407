"""Searches everything that left a hospital for identifiers and canaries that were planted in its notes.

Protects against: a planted name, number or canary that reached a message, a log, an adapter's metadata, a generation or the
report, as written, in another case, broken over lines, with other separators, or escaped as JSON or HTML.
Does not protect against: paraphrase, identifiers that were never planted, compressed or encrypted bytes, and what a model
memorised but was not asked for (`server/evaluate/attacks` asks).

A finding names the place and the class, never the value.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ahocorasick_rs import AhoCorasick

from common.errors import StorageError

SHORTEST = 6
"""Letters and digits a planted value must have: "Ann" or "3 May" would be found in any honest page."""

_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_MARKS = re.compile("[\u0300-\u036f]")
_SEPARATORS = re.compile(r"[\W_]+")
_GROUPS = re.compile(r"(?<=\d)(?:[ \-./()\u00a0]{1,2}|\s*\n\s*)(?=\d)")
"""What stands between the groups of one number; a comma or a word ends it."""
_READABLE = re.compile(rb"(?:[\t\n\r\x20-\x7e]|[\xc3-\xc5][\x80-\xbf]){%d,}" % SHORTEST)
"""What a person could read in a binary file: runs of ASCII and of accented Latin letters in UTF-8."""


@dataclass(frozen=True, slots=True, repr=False)
class Planted:
    """One value to look for and its class ("name", "phone", "canary" …). Prints its class only."""

    kind: str
    value: str

    def __repr__(self) -> str:
        return f"Planted({self.kind})"


@dataclass(frozen=True, slots=True)
class Finding:
    """`count` different planted values of one class were found in one place."""

    place: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was looked for, where, and what was found. `too_short` values were not looked for, and are said so."""

    planted: int
    too_short: int
    places: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def found(self) -> int:
        return sum(f.count for f in self.findings)


class LeakSearch:
    """Feed it every byte that left a site; ask for the `report` at the end."""

    def __init__(self, planted: Iterable[Planted]) -> None:
        values = {(p.kind, squeezed(p.value)) for p in planted}
        self._planted = sorted((kind, v) for kind, v in values if len(v.replace(" ", "")) >= SHORTEST)
        self._too_short = len(values) - len(self._planted)
        # A word needs its borders, or "an other" would spell "another"; a number is also looked for with its separators gone.
        self._words = AhoCorasick([f" {v} " for _, v in self._planted])
        self._number_of = [i for i, (_, v) in enumerate(self._planted) if v.replace(" ", "").isdigit()]
        self._numbers = AhoCorasick([f" {self._planted[i][1].replace(' ', '')} " for i in self._number_of])
        self._found: dict[str, set[int]] = {}
        self._added: dict[str, Counter[str]] = {}
        self._places: set[str] = set()
        self._bytes = 0

    def text(self, place: str, text: str) -> None:
        """Search one text, such as a generation or a log line. The same place may be fed many times."""
        self._places.add(place)
        self._bytes += len(text.encode("utf-8", "surrogatepass"))
        self._look(place, text)

    def data(self, place: str, data: bytes) -> None:
        """Search bytes: all of them when they are UTF-8, otherwise every readable run in them."""
        self._places.add(place)
        self._bytes += len(data)
        self._look(place, _text_in(data))

    def count(self, data: bytes) -> dict[str, int]:
        """Different planted values in `data`, by class, without adding a place: for a message that is written down elsewhere."""
        return dict(sorted(Counter(self._planted[i][0] for i in self._hits(_text_in(data))).items()))

    def add(self, place: str, size_bytes: int, kinds: Mapping[str, int]) -> None:
        """Take over what `count` found earlier."""
        self._places.add(place)
        self._bytes += size_bytes
        if kinds:
            self._added[place] = Counter(self._added.get(place, {})) + Counter(kinds)

    def folder(self, root: Path, *, skip: Sequence[Path] = ()) -> None:
        """Search names and contents of every file below `root`, except below the folders in `skip`.

        Raises StorageError on a file that cannot be read: a place that was not searched is not clean.
        """
        for path in _files(root, {p.resolve() for p in skip}):
            place = str(path.relative_to(root))
            self._look(place, place)
            try:
                self.data(place, path.read_bytes())
            except OSError as error:
                raise StorageError(
                    f"{path}: cannot be searched for leaks ({type(error).__name__}); make it readable and evaluate again"
                ) from None

    def report(self) -> LeakReport:
        found = {place: Counter(self._planted[i][0] for i in hits) for place, hits in self._found.items()}
        for place, kinds in self._added.items():
            found[place] = found.get(place, Counter()) + Counter(kinds)
        findings = tuple(Finding(place, kind, n) for place, kinds in sorted(found.items()) for kind, n in sorted(kinds.items()))
        return LeakReport(len(self._planted), self._too_short, len(self._places), self._bytes, findings)

    def _look(self, place: str, text: str) -> None:
        hits = self._hits(text)
        if hits:
            self._found.setdefault(place, set()).update(hits)

    def _hits(self, text: str) -> set[int]:
        """Which planted values stand in `text`."""
        hits: set[int] = set()
        for form in _forms(text):
            whole = f" {squeezed(form)} "
            hits |= {i for i, _, _ in self._words.find_matches_as_indexes(whole, overlapping=True)}
            joined = f" {squeezed(_GROUPS.sub('', form))} "
            hits |= {self._number_of[i] for i, _, _ in self._numbers.find_matches_as_indexes(joined, overlapping=True)}
        return hits


def _text_in(data: bytes) -> str:
    """All of it when it is UTF-8, otherwise every readable run, with a break between them."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "\n\n".join(run.decode("utf-8", "replace") for run in _READABLE.findall(data))


def _forms(text: str) -> Iterator[str]:
    """The text as written, and once more with JSON and HTML escapes undone where it holds some."""
    yield text
    if "\\" in text or "&" in text:
        yield html.unescape(_ESCAPED.sub(lambda m: chr(int(m[1], 16)), text).replace("\\n", "\n").replace("\\t", "\t"))


def squeezed(text: str) -> str:
    """Case folded, accents and width normalised, everything that is no letter or digit one space."""
    folded = text.casefold()
    if not folded.isascii():
        folded = _MARKS.sub("", unicodedata.normalize("NFKD", folded))
    return _SEPARATORS.sub(" ", folded).strip()


def _files(root: Path, skip: set[Path]) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        if path.resolve() in skip or path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path, skip)
        elif path.is_file():
            yield path
