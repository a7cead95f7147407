"""Headers of messages: which fields each kind has, their bounds, and their one encoding as canonical JSON.

Protects against: unknown fields, wrong types, another version, and two encodings of one value (a header must be byte for byte
what this module would have written).
Does not protect against: a well-formed header that lies; the values are checked against the round by their users.
"""

import json
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import ProtocolError
from common.privacy.mechanism import Unit

PROTOCOL_VERSION = 2
"""Raised whenever the bytes or their meaning change; both sides speak exactly one version."""

MAX_HEADER_BYTES = 2**20
MAX_DECLARED_UNITS = 10**9
KINDS = ("hello-request", "hello-reply", "round-request", "round-reply", "refusal")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)
    version: int


class HelloHeader(Header):
    kind: Literal["hello-request"] = "hello-request"
    units: Annotated[list[Name], Field(min_length=1, max_length=len(Unit))]


class HelloReplyHeader(Header):
    kind: Literal["hello-reply"] = "hello-reply"
    site: Name
    declared_units: Annotated[dict[Name, Annotated[int, Field(ge=1, le=MAX_DECLARED_UNITS)]], Field(max_length=len(Unit))]


class RequestHeader(Header):
    kind: Literal["round-request"] = "round-request"
    stage: Literal["sft", "reward"]
    member: Annotated[int, Field(ge=0, le=1000)] | None
    round: Annotated[int, Field(ge=0, le=10**6)]
    attempt: Annotated[int, Field(ge=0, le=10**6)]
    sites: Annotated[list[Name], Field(min_length=1, max_length=10_000)]
    adapter_digest: Digest
    base_digest: Digest
    exchange: Name
    roster: Digest | None
    phase: Name
    study: str
    noise_multiplier: Annotated[float, Field(ge=0, le=1e6)]
    expected_units: Annotated[float, Field(gt=0, le=1e9)]
    grid: Annotated[float, Field(gt=0, le=1e6)]
    tensors: Annotated[list[str], Field(max_length=100_000)] | None


class ReplyHeader(Header):
    kind: Literal["round-reply"] = "round-reply"
    site: Name
    transcript: Digest
    phase: Name


class RefusalHeader(Header):
    kind: Literal["refusal"] = "refusal"
    code: Name


def canonical(header: Header) -> bytes:
    """Sorted keys, no spaces, no NaN."""
    return json.dumps(header.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def kind_of(data: bytes) -> str:
    """The kind a header names. Raises ProtocolError for one this version does not know."""
    kind = _tree(data).get("kind")
    if kind not in KINDS:
        raise ProtocolError("a message of a kind this version does not know")
    return str(kind)


H = TypeVar("H", bound=Header)


def parse(data: bytes, expected: type[H]) -> H:
    """The header in `data`. Raises ProtocolError: too long, not JSON, another version or kind, wrong fields, not canonical."""
    tree = _tree(data)
    version = tree.get("version")
    if version != PROTOCOL_VERSION or isinstance(version, bool):
        shown = version if isinstance(version, int) and abs(version) < 10**6 else "unknown"
        raise ProtocolError(f"the message speaks protocol version {shown}, this side {PROTOCOL_VERSION}; update the older side")
    try:
        header = expected.model_validate(tree)
    except ValidationError as error:
        # Names of fields only: a key that the sender invented is not repeated.
        known = {str(e["loc"][0]) for e in error.errors(include_input=False, include_url=False) if e["loc"]} & set(expected.model_fields)
        wrong = ", ".join(f"`{name}`" for name in sorted(known)) or "a field that does not belong there"
        raise ProtocolError(f"not a valid {expected.model_fields['kind'].default}: {wrong}") from None
    if canonical(header) != data:
        raise ProtocolError("the header of a message is not written in its canonical form")
    return header


def _tree(data: bytes) -> dict[str, object]:
    if len(data) > MAX_HEADER_BYTES:
        raise ProtocolError(f"the header of a message has {len(data):,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        raise ProtocolError("the header of a message is not JSON") from None
    if not isinstance(tree, dict):
        raise ProtocolError("the header of a message is not a JSON object")
    return tree
