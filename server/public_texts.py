"""Public texts that the coordinator's desk hands in as JSON lines: prompts, examples, pairs, exam questions. Every error names file and line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from common.config import StudyConfig
from common.errors import ConfigError
from common.models import Encoded, SharedBase
from server.align.pretraining import Pair
from server.evaluate.leaks import Planted
from server.evaluate.quality import Example

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class SitePair:
    """A public pair and the site it is reported under, if it names one."""

    pair: Pair
    site: str | None

    def __repr__(self) -> str:
        return f"SitePair({self.pair!r})"


@dataclass(frozen=True, slots=True, repr=False)
class ExamQuestion:
    """A question with two options or more and the place of the right one."""

    question: str
    options: tuple[str, ...]
    right: int

    def __repr__(self) -> str:
        return f"ExamQuestion({len(self.options)} options)"


def read_prompts(path: Path) -> list[str]:
    """Lines {"prompt"}, each prompt once."""
    return list(dict.fromkeys(_lines(path, lambda row: _text(row["prompt"]), '{"prompt"}')))


def read_examples(path: Path) -> list[Example]:
    """Lines {"prompt", "answer"}: public answers for PPO-ptx."""
    return _lines(path, lambda row: Example(_text(row["prompt"]), _text(row["answer"])), '{"prompt", "answer"}')


def encoded_examples(base: SharedBase, study: StudyConfig, path: Path | None) -> list[Encoded]:
    """The examples of `path`, as PPO-ptx reads them; none without a file."""
    bounds = {"max_prompt_tokens": study.model.max_prompt_tokens, "max_answer_tokens": study.model.max_answer_tokens}
    return [base.encode(example.prompt, example.answer, **bounds) for example in read_examples(path)] if path else []


def read_pairs(path: Path) -> list[Pair]:
    """Lines {"prompt", "chosen", "rejected"}."""
    return [found.pair for found in read_site_pairs(path)]


def read_site_pairs(path: Path) -> list[SitePair]:
    """Lines {"prompt", "chosen", "rejected", "site"?}."""

    def pair(row: dict[str, Any]) -> SitePair:
        site = row.get("site")
        return SitePair(Pair(_text(row["prompt"]), _text(row["chosen"]), _text(row["rejected"])), None if site is None else _text(site))

    return _lines(path, pair, '{"prompt", "chosen", "rejected"}, and "site" if you like')


def read_questions(path: Path) -> list[ExamQuestion]:
    """Lines {"question", "options", "answer_index"}; the index counts from 0."""

    def question(row: dict[str, Any]) -> ExamQuestion:
        options, right = tuple(map(_text, row["options"])), int(row["answer_index"])
        if len(options) < 2 or not 0 <= right < len(options):
            raise ValueError
        return ExamQuestion(_text(row["question"]), options, right)

    return _lines(path, question, '{"question", "options", "answer_index"}')


def read_planted(path: Path) -> list[Planted]:
    """Lines {"kind", "value"}: invented identifiers and canaries that the hospitals planted in their notes."""
    return _lines(path, lambda row: Planted(_text(row["kind"]), _text(row["value"])), '{"kind", "value"}')


def _lines(path: Path, read: Callable[[dict[str, Any]], T], what: str) -> list[T]:
    """Every line through `read`; `what` a line is. Raises ConfigError for a file without lines and for a line that is none of them."""
    try:
        # Not `splitlines`: JSON may hold other line separators as they are.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8; a line is {what}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a file whose lines are {what}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(read(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ConfigError(f"{path}, line {number}: a line is {what}") from None
    if not found:
        raise ConfigError(f"{path}: the file is empty; a line is {what}")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value
