"""Reading public data sets through Hugging Face `datasets`: JSONL files of a folder, or a data set on the Hub."""

import hashlib
import json
import re
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from datasets import Dataset, disable_progress_bars, load_dataset
from datasets.utils import logging as datasets_logging

from common.errors import ConfigError
from common.storage import storage_errors

SHORTEST_ANSWER, LONGEST_ANSWER = 40, 1600
VALID_SHARE = 0.1
_MEDQUAD = ("id", "site", "doc_id", "focus", "qtype", "question", "answer")
_HUB_COLUMNS: Mapping[str, str] = {
    "id": "question_id", "site": "document_source", "doc_id": "document_id", "focus": "question_focus", "qtype": "question_type",
}  # fmt: skip
"""MedQuAD's column names on the Hub, where they differ from the folder's."""


class PublicSets:
    """The sets below one folder, or under the Hub ids of its sources.toml. Each file is read once."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder; `--data` takes a folder with public data sets")
        self.folder = folder
        self._hub = self._sources()
        self._read: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def _sources(self) -> dict[str, str]:
        path = self.folder / "sources.toml"
        if not path.exists():
            return {}
        try:
            named = tomllib.loads(path.read_text(encoding="utf-8")).get("hub", {})
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read ({type(error).__name__})") from None
        if not isinstance(named, dict) or not all(isinstance(value, str) for value in named.values()):
            raise ConfigError(f'{path}: [hub] names sets and ids, such as medquad = "owner/name"')
        return named

    def rows(self, name: str, file: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        """All rows of one file of a set, whose `columns` are all there and filled. Raises ConfigError naming the file, or the Hub id, and what is missing."""
        if (name, file) not in self._read:
            self._read[name, file] = self._from_disk_or_hub(name, file, columns)
        return self._read[name, file]

    def _from_disk_or_hub(self, name: str, file: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        path = self.folder / name / f"{file}.jsonl"
        if path.exists():
            _require_objects(path)
            found = _load(str(path), "json", data_files=str(path))
        elif name in self._hub:
            found = _load(self._hub[name], self._hub[name], data_files=f"{file}.jsonl")
        else:
            raise ConfigError(f"{path}: there is no such file, and {self.folder / 'sources.toml'} names no Hub id for `{name}`; add either")
        return _checked(found, str(path), columns)

    def medquad(self, split: str) -> list[dict[str, Any]]:
        """MedQuAD's rows of a split, in the folder's column names, with answers of a usable length."""
        if (self.folder / "medquad" / f"{split}.jsonl").exists() or "medquad" not in self._hub:
            rows = self.rows("medquad", split, _MEDQUAD)
        else:
            rows = [row for row in self._medquad_of_hub() if (row["split"] == "valid") == (split == "valid")]
        # The source ends many questions with "? ?" or " ?".
        return [{**row, "question": re.sub(r"[\s?]*\?\s*$", "?", row["question"])} for row in rows]

    def _medquad_of_hub(self) -> list[dict[str, Any]]:
        """The whole set, split by topic: a share of the topics, drawn by their digest, is held out."""
        place = self._hub["medquad"]
        columns = [_HUB_COLUMNS.get(column, column) for column in _MEDQUAD]
        rows = []
        for row in _checked(_load(place, place, split="train"), place, columns):
            answer = " ".join(str(row["answer"] or "").split())
            if not SHORTEST_ANSWER <= len(answer) <= LONGEST_ANSWER:
                continue
            told = {column: str(row[_HUB_COLUMNS.get(column, column)]) for column in _MEDQUAD}
            told |= {"answer": answer, "site": _site(told["site"])}
            topic = hashlib.sha256(told["focus"].lower().encode()).digest()[0] / 256
            rows.append({**told, "split": "valid" if topic < VALID_SHARE else "train"})
        return rows


def _require_objects(path: Path) -> None:
    """Raises ConfigError naming the first line that is not one JSON object; the library would name none."""
    with storage_errors(path, "read the data set"), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                holds = not line.strip() or isinstance(json.loads(line), dict)
            except ValueError:
                holds = False
            if not holds:
                raise ConfigError(f"{path}, line {number}: not a JSON object; each line of a data set holds one whole row")


def _site(name: str) -> str:
    """ "MPlusHealthTopics" → "mplus_health_topics"; other names in lower case."""
    return "mplus_health_topics" if name.lower() == "mplushealthtopics" else name.lower()


def _load(place: str, *what: str, **how: Any) -> Dataset:
    """A data set in memory; its cache lives no longer than the reading, so that nothing is left in the user's home."""
    disable_progress_bars()
    datasets_logging.set_verbosity(datasets_logging.CRITICAL)  # its log quotes rows, and every failure is told below
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = load_dataset(*what, **{"split": "train", **how}, cache_dir=scratch, keep_in_memory=True)
        except Exception as error:  # whatever stands between here and the Hub may raise, and its text may quote rows
            raise ConfigError(
                f"{place}: cannot be read as a data set ({type(error).__name__}); check the file, or the Hub id and the connection"
            ) from None
    return cast(Dataset, found)


def _checked(found: Dataset, place: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    missing = [column for column in columns if column not in found.column_names]
    if missing:
        raise ConfigError(f"{place}: column `{missing[0]}` is missing")
    rows = cast(list[dict[str, Any]], found.to_list())
    for number, row in enumerate(rows, 1):
        for column in columns:
            if row[column] is None and column != "answer":
                raise ConfigError(f"{place}, row {number}: `{column}` is empty")
    return rows


def trimmed(text: str, characters: int) -> str:
    """Whole sentences from the beginning, `characters` at most; a first sentence that is longer is cut at a word."""
    if len(text) <= characters:
        return text
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s)", text[: characters + 1])]
    return text[: ends[-1]] if ends else text[:characters].rsplit(" ", 1)[0] + "."
