"""The messages between coordinator and site, to and from Flower records. One strict parser a message, one encoding a value.

A record holds a header (canonical JSON, at most 1 MiB) and raw little-endian arrays. Whatever does not fit is refused before
it is used: another version, an unknown field, a second encoding of the same value, a wrong length, a number that is not finite.

    hello-request  → hello-reply     who is there, and the units it declared before the study
    round-request  → round-reply     one phase of one attempt at one round (`common/secure/exchange.py`)
    any request    → refusal         a code of `common/errors.py`; text never leaves a site

Protects against: malformed, oversized, outdated or misdirected messages, and values that two readers would read differently.
Does not protect against: a forged sender; that is for the transport's node authentication and the exchange's signatures.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from common.adapters import Adapter, AdapterSpec, TensorSpec, Vector
from common.config import Stage, StudyConfig
from common.errors import NotFinite, ProtocolError
from common.privacy.mechanism import Unit
from common.secure.context import RoundContext
from common.wire import (
    PROTOCOL_VERSION,
    H,
    Header,
    HelloHeader,
    HelloReplyHeader,
    RefusalHeader,
    ReplyHeader,
    RequestHeader,
    canonical,
    kind_of,
    parse,
)

__all__ = ["PROTOCOL_VERSION", "Hello", "HelloRequest", "Refusal", "RoundContext", "RoundReply", "RoundRequest", "schema_of"]

HELLO_MESSAGE, ROUND_MESSAGE = "query.hello", "train.round"
"""Flower's message types: category and action."""

MAX_BODY_BYTES = 2**31 - 2**20
MAX_TENSOR_BYTES = 2**31 - 2**20

_HEADER, _ARRAYS, _BODY, _TENSOR = "header", "arrays", "body", "tensor/"


# -- the values --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a site is and N_s, the units it declared of each kind before the study. Asked once, pinned for the whole study."""

    site: str
    declared_units: Mapping[Unit, int]

    def to_record(self) -> RecordDict:
        units = {unit.value: count for unit, count in sorted(self.declared_units.items())}
        return _pack(HelloReplyHeader(version=PROTOCOL_VERSION, site=self.site, declared_units=units))

    @classmethod
    def from_record(cls, record: RecordDict) -> "Hello":
        header, _ = _unpack(record, HelloReplyHeader, 0)
        units = {Unit(name): count for name, count in header.declared_units.items() if name in set(Unit)}
        if len(units) != len(header.declared_units):
            raise ProtocolError(f"site `{header.site}` declares units of a kind this version does not know")
        return cls(header.site, units)


@dataclass(frozen=True, slots=True)
class HelloRequest:
    """Asks a site who it is and what it declared of the `units` that the study protects; of no others."""

    units: tuple[Unit, ...]

    def to_record(self) -> RecordDict:
        return _pack(HelloHeader(version=PROTOCOL_VERSION, units=sorted(unit.value for unit in self.units)))

    @classmethod
    def from_record(cls, record: RecordDict) -> "HelloRequest":
        header, _ = _unpack(record, HelloHeader, 0)
        if len(set(header.units)) != len(header.units) or not set(header.units) <= set(Unit):
            raise ProtocolError("a hello asks for units of a kind this version does not know, or for one of them twice")
        return cls(tuple(Unit(unit) for unit in header.units))


@dataclass(frozen=True, slots=True)
class RoundRequest:
    """One phase of one attempt, as the coordinator sends it to one site.

    expected_units    L_s = q·N_s of this site, public
    grid              γ, the public grid of the update's integers
    tensors           in the phase that trains: every tensor of the adapter that is not the public start's; else None
    """

    context: RoundContext
    phase: str
    body: bytes
    study: StudyConfig
    expected_units: float
    grid: float
    tensors: Mapping[str, Vector] | None

    @property
    def noise_multiplier(self) -> float:
        """σ of each step; 0 only when the study's engine is `none`."""
        return self.context.noise_multiplier

    def to_record(self, packed: Mapping[str, Array] | None = None) -> RecordDict:
        """`packed` is `pack_tensors(self.tensors)`, made once when the same adapter goes to many sites."""
        context = self.context
        header = RequestHeader(
            version=PROTOCOL_VERSION,
            stage=context.stage.value,
            member=context.member,
            round=context.round,
            attempt=context.attempt,
            sites=list(context.sites),
            adapter_digest=context.adapter_digest,
            base_digest=context.base_digest,
            exchange=context.exchange,
            roster=context.roster,
            phase=self.phase,
            study=self.study.to_json(),
            noise_multiplier=self.noise_multiplier,
            expected_units=self.expected_units,
            grid=self.grid,
            tensors=None if self.tensors is None else sorted(self.tensors),
        )
        return _pack(header, self.body, pack_tensors(self.tensors or {}) if packed is None else packed)

    @classmethod
    def from_record(cls, record: RecordDict) -> "RoundRequest":
        """Raises ProtocolError naming what does not fit, NotFinite for a tensor with NaN or infinity, ConfigError for the study."""
        header, body = _unpack(record, RequestHeader, MAX_BODY_BYTES)
        study = StudyConfig.from_json(header.study)
        if study.to_json() != header.study:
            raise ProtocolError("the study in the request is not written in its canonical form")
        context = RoundContext(
            study.digest, Stage(header.stage), header.member, header.round, header.attempt, tuple(header.sites),
            header.adapter_digest, header.base_digest, header.exchange, header.roster, header.noise_multiplier,
        )  # fmt: skip
        if study.private != (header.noise_multiplier > 0):
            raise ProtocolError(
                f"engine `{study.privacy.engine}` with noise multiplier {header.noise_multiplier:g}: a private study adds noise in every round"
            )
        tensors = _tensors(record, header.tensors)
        return cls(context, header.phase, body, study, header.expected_units, header.grid, tensors)

    def adapter(self, spec: AdapterSpec) -> Adapter:
        """The adapter of the request on `spec`: the public start with the tensors that travelled. Its digest must be the context's."""
        if self.tensors is None:
            raise ProtocolError(f"phase `{self.phase}` carries no adapter")
        start = spec.initial()
        shapes = {tensor.name: tensor.shape for tensor in spec.tensors}
        for name, tensor in self.tensors.items():
            if shapes.get(name) != tensor.shape:
                raise ProtocolError(f"tensor `{name[:120]}` of the request does not belong to the adapter the study describes")
        adapter = Adapter(spec, {**start.tensors, **self.tensors})
        if adapter.digest != self.context.adapter_digest:
            raise ProtocolError(
                "the adapter in the request is not the one its digest names; the coordinator and this site build the public start "
                "differently (compare the versions of Wardround and NumPy) or the message was changed on its way"
            )
        return adapter


def travelling(adapter: Adapter) -> dict[str, Vector]:
    """The tensors of `adapter` that are not the public start's. The others are rebuilt at the site from the public seed."""
    start = adapter.spec.initial()
    return {name: tensor for name, tensor in adapter.tensors.items() if not np.array_equal(tensor, start.tensors[name])}


@dataclass(frozen=True, slots=True)
class RoundReply:
    """A site's answer to one phase. `transcript` is the digest of the context it answered."""

    site: str
    transcript: bytes
    phase: str
    body: bytes

    def to_record(self) -> RecordDict:
        return _pack(ReplyHeader(version=PROTOCOL_VERSION, site=self.site, transcript=self.transcript.hex(), phase=self.phase), self.body)

    @classmethod
    def from_record(cls, record: RecordDict, *, max_body_bytes: int = MAX_BODY_BYTES) -> "RoundReply":
        header, body = _unpack(record, ReplyHeader, max_body_bytes)
        return cls(header.site, bytes.fromhex(header.transcript), header.phase, body)


@dataclass(frozen=True, slots=True)
class Refusal:
    """All a site says about a failure: the code of an error class, never its text."""

    code: str

    def to_record(self) -> RecordDict:
        return _pack(RefusalHeader(version=PROTOCOL_VERSION, code=self.code))

    @classmethod
    def of(cls, record: RecordDict) -> "Refusal | None":
        """The refusal in `record`, or None when it is another message. Raises ProtocolError for a malformed refusal."""
        if kind_of(_raw_header(record)) != "refusal":
            return None
        header, _ = _unpack(record, RefusalHeader, 0)
        return cls(header.code)


def schema_of(record: RecordDict) -> str:
    """Name and version of a message, for the record of what left a site: `round-reply/1`. Raises ProtocolError."""
    return f"{kind_of(_raw_header(record))}/{PROTOCOL_VERSION}"


def size_of(record: RecordDict) -> int:
    """Bytes of header, body and tensors; Flower adds about a kilobyte of framing."""
    return sum(
        sum(len(value) for value in part.values() if isinstance(value, bytes))
        if isinstance(part, ConfigRecord)
        else sum(len(array.data) for array in part.values())
        if isinstance(part, ArrayRecord)
        else 0
        for part in record.values()
    )


# -- records -----------------------------------------------------------------------------------------------------------


def _pack(header: Header, body: bytes = b"", tensors: Mapping[str, Array] | None = None) -> RecordDict:
    arrays = {_BODY: Array("uint8", (len(body),), "raw", body)}
    arrays.update({_TENSOR + name: array for name, array in sorted((tensors or {}).items())})
    return RecordDict({_HEADER: ConfigRecord({"json": canonical(header)}), _ARRAYS: ArrayRecord(arrays)})


def pack_tensors(tensors: Mapping[str, Vector]) -> dict[str, Array]:
    """Little-endian float32, as they travel."""
    return {
        name: Array("<f4", tensor.shape, "raw", np.ascontiguousarray(tensor, dtype="<f4").tobytes()) for name, tensor in tensors.items()
    }


def _raw_header(record: RecordDict) -> bytes:
    header = record.get(_HEADER)
    if set(record) != {_HEADER, _ARRAYS} or not isinstance(header, ConfigRecord) or set(header) != {"json"}:
        raise ProtocolError("a message of Wardround has a header and its arrays, and nothing else")
    data = header["json"]
    if not isinstance(data, bytes):
        raise ProtocolError("the header of a message must be bytes")
    return data


def _unpack(record: RecordDict, expected: type[H], max_body_bytes: int) -> tuple[H, bytes]:
    header = parse(_raw_header(record), expected)
    arrays = record[_ARRAYS]
    if not isinstance(arrays, ArrayRecord) or _BODY not in arrays:
        raise ProtocolError("a message of Wardround has a body, if only an empty one")
    names = set(header.tensors or ()) if isinstance(header, RequestHeader) else set()
    if {key for key in arrays if key != _BODY} != {_TENSOR + name for name in names}:
        raise ProtocolError("the arrays of a message are not the ones its header lists")
    body = arrays[_BODY]
    if body.dtype != "uint8" or body.stype != "raw" or tuple(body.shape) != (len(body.data),):
        raise ProtocolError("the body of a message is not what its description says")
    if len(body.data) > max_body_bytes:
        raise ProtocolError(f"the body of a message has {len(body.data):,} bytes; at most {max_body_bytes:,} are read here")
    return header, body.data


def _tensors(record: RecordDict, names: list[str] | None) -> dict[str, Vector] | None:
    if names is None:
        return None
    arrays = record[_ARRAYS]
    assert isinstance(arrays, ArrayRecord)
    if list(names) != sorted(set(names)):
        raise ProtocolError("the tensors of a request are listed in alphabetical order, each once")
    if sum(len(arrays[_TENSOR + name].data) for name in names) > MAX_TENSOR_BYTES:
        raise ProtocolError(f"the adapter of a request is larger than {MAX_TENSOR_BYTES:,} bytes")
    return dict(_parsed(arrays, names))


def _parsed(arrays: ArrayRecord, names: list[str]) -> Iterator[tuple[str, Vector]]:
    for name in names:
        array = arrays[_TENSOR + name]
        shape = tuple(array.shape)
        if array.dtype != "<f4" or array.stype != "raw" or any(n < 0 for n in shape) or 4 * TensorSpec(name, shape).size != len(array.data):
            raise ProtocolError(f"tensor `{name[:120]}` of a request is not what its description says")
        tensor = np.frombuffer(array.data, "<f4").astype(np.float32, copy=False).reshape(shape)
        if not np.isfinite(tensor).all():
            raise NotFinite(f"tensor `{name[:120]}` of a request holds numbers that are not finite; the round is refused")
        yield name, tensor
