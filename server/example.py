"""An example study to edit, written from the configuration itself, so that no key, default or bound can be missing or out of date."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from common.config import StudyConfig
from common.errors import StorageError
from common.storage import storage_errors, write_atomic

_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def example_study(folder: Path) -> Path:
    """Write FOLDER/study.toml and return its path. Raises StorageError when one is there: a study is not overwritten."""
    path = folder / "study.toml"
    if path.exists():
        raise StorageError(f"{path}: there is a study already; choose another folder")
    with storage_errors(folder, "create the folder"):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "\n".join(_lines(StudyConfig(), ())) + "\n", mode=0o644)
    return path


def _lines(model: BaseModel, place: tuple[str, ...]) -> Iterator[str]:
    fields = type(model).model_fields
    if place:
        yield ""
        yield f"[{'.'.join(place)}]"
    else:
        yield "# A study of Wardround. Every key stands at its default; leave out what you do not change."
    for name, field in fields.items():
        value = getattr(model, name)
        if not isinstance(value, BaseModel):
            yield _line(name, field, value)
    for name in fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _lines(value, (*place, name))


def _line(name: str, field: FieldInfo, value: Any) -> str:
    plain = getattr(value, "value", value)
    if isinstance(plain, tuple):
        plain = [getattr(item, "value", item) for item in plain]
    remarks = [text for text in (field.description, _choices(field.annotation), _limits(field)) if text]
    comment = f"  # {'; '.join(remarks)}" if remarks else ""
    if plain is None:
        return f"# {name} ={comment}"
    written = " ".join(tomli_w.dumps({name: plain}).split()).replace("[ ", "[").replace(", ]", "]")
    return written + comment


def _limits(field: FieldInfo) -> str:
    return ", ".join(
        f"{sign} {getattr(rule, key):g}" for rule in field.metadata for key, sign in _BOUNDS.items() if getattr(rule, key, None) is not None
    )


def _choices(annotation: Any) -> str:
    """The words a key may hold, if they are few."""
    if isinstance(annotation, type) and hasattr(annotation, "__members__"):
        return " | ".join(member.value for member in annotation.__members__.values())
    if get_origin(annotation) in (Union, types.UnionType):
        return ""
    words = [getattr(word, "value", word) for word in get_args(annotation)]
    return " | ".join(words) if words and all(isinstance(word, str) for word in words) else ""
