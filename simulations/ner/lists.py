"""The lists of `lists.toml`: forms of streets and institutions, months, jobs, diseases, by language where they have one."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


def forms(name: str, language: str | None = None) -> list[str]:
    entry = _lists()[name]
    found: list[str] = entry if language is None else entry[language]
    return found


@cache
def _lists() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("lists.toml").read_text(encoding="utf-8"))
