"""Every word of the page, by language, from one file."""

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files

PAGE = files("client.feedback") / "page"


@cache
def languages() -> Mapping[str, Mapping[str, str]]:
    tree: dict[str, dict[str, str]] = tomllib.loads((PAGE / "texts.toml").read_text(encoding="utf-8"))
    return tree


def words(language: str) -> Callable[..., str]:
    """`t(key, **values)` in that language. Raises KeyError for a key that the file does not have: no text is ever half-translated."""
    texts = languages()[language]

    def t(key: str, **values: object) -> str:
        return texts[key].format(**values) if values else texts[key]

    return t


def preferred(header: str, fallback: str) -> str:
    """The first of a browser's languages (Accept-Language) that the page speaks."""
    for part in header.split(","):
        code = part.split(";")[0].strip().split("-")[0].lower()
        if code in languages():
            return code
    return fallback
