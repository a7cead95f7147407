"""What a person wrote into a TOML file, as one frozen value; errors name the file, the key, what stood there, its bound and the nearest key.

Unknown keys are refused, since a misspelt bound protects nobody; so are infinity and NaN, which pass every comparison in one direction, and
a value of another type: `true` is no number, and "3" is none either.
"""

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from common.errors import ConfigError


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


def read_toml(path: Path, hint: str) -> dict[str, Any]:
    """The tree of a TOML file. `hint` says where an example is. Raises ConfigError naming the file and, for a fault of the syntax, the line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; {hint}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8; write it as TOML, {hint}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a TOML file, {hint}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from None


M = TypeVar("M", bound=BaseModel)


def validated(place: str, tree: Mapping[str, Any], model: type[M]) -> M:
    """`tree`, as `read_toml` gave it, as a value of `model`. Raises ConfigError that begins with `place` and says what `explain` says."""
    try:
        # Strictly, and by way of JSON: there a list may stand for a tuple and a word for a member of a closed vocabulary.
        return model.model_validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(explain(place, error, model)) from None


MAX_SHOWN_CHARACTERS = 60
"""A longer value is not repeated in an error."""


def explain(place: str, error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong, key by key: the value that stood there, its bound, and for an unknown key the nearest known one.

    For settings alone. It repeats what was written, so it is never used on anything that may hold a patient.
    """
    return f"{place}: " + "; ".join(_problem(e, model) for e in error.errors(include_url=False))


def _problem(found: ErrorDetails, model: type[BaseModel]) -> str:
    key = ".".join(map(str, found["loc"]))
    said = found["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
    if not key:
        return said
    if found["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(found["loc"][-1]), _keys_beside(found["loc"], model), 1)
        return f"`{key}`: there is no such key" + (f"; did you mean `{near[0]}`?" if near else "")
    if found["type"] == "missing":
        return f"`{key}` is missing"
    value = found["input"]
    shown = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, dict | list) or len(shown) > MAX_SHOWN_CHARACTERS:
        return f"`{key}`: {said}"
    return f"`{key}` is {shown}: {said}"


def _keys_beside(place: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The keys that the section of `place` knows."""
    for part in place[:-1]:
        field = model.model_fields.get(str(part))
        inner = None if field is None else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
