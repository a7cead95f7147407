"""The parsers of every message as tables: what arrives unchanged, and what is refused with which words."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import Engine, PrivacyConfig, Stage, StudyConfig
from common.errors import NotFinite, ProtocolError, WardroundError
from common.privacy.mechanism import Unit
from common.protocol import (
    Hello,
    HelloRequest,
    Refusal,
    RoundContext,
    RoundReply,
    RoundRequest,
    pack_tensors,
    schema_of,
    size_of,
    travelling,
)
from common.wire import MAX_HEADER_BYTES
from tests.helpers.federation import BASE_DIGEST, SPEC, study

STUDY = study()
ADAPTER = SPEC.initial().with_vector(np.linspace(-1, 1, SPEC.size(0), dtype=np.float32))
CONTEXT = RoundContext(STUDY.digest, Stage.SFT, None, 2, 0, ("ash", "birch", "cedar"), ADAPTER.digest, BASE_DIGEST, noise_multiplier=0.75)
REQUEST = RoundRequest(CONTEXT, "update", b"body", STUDY, 9.0, 2.0**-16, travelling(ADAPTER))
REPLY = RoundReply("ash", CONTEXT.transcript(), "update", b"\x01\x02\x03\x04")


def wire(record: RecordDict) -> RecordDict:
    """A copy that shares nothing, so that a case may change it."""
    return RecordDict(
        {
            "header": ConfigRecord(dict(record["header"])),
            "arrays": ArrayRecord({name: Array(a.dtype, tuple(a.shape), a.stype, a.data) for name, a in record["arrays"].items()}),
        }
    )


# -- what arrives is what was sent -------------------------------------------------------------------------------------


def test_a_request_arrives_whole() -> None:
    arrived = RoundRequest.from_record(wire(REQUEST.to_record()))
    assert replace(arrived, tensors=None) == replace(REQUEST, tensors=None)
    assert arrived.adapter(SPEC).digest == ADAPTER.digest
    assert schema_of(REQUEST.to_record()) == "round-request/2"


def test_frozen_factors_do_not_travel() -> None:
    assert set(travelling(ADAPTER)) == {t.name for t in SPEC.tensors if ".lora_B." in t.name}
    assert travelling(SPEC.initial()) == {}


def test_the_adapter_is_packed_once_for_all_sites() -> None:
    packed = pack_tensors(REQUEST.tensors or {})
    one, two = REQUEST.to_record(packed), replace(REQUEST, expected_units=8.0).to_record(packed)
    name = next(key for key in one["arrays"] if key != "body")
    assert one["arrays"][name].data is two["arrays"][name].data
    assert RoundRequest.from_record(one).tensors is not None


@pytest.mark.parametrize("value", [Hello("ash", {Unit.PATIENT: 90, Unit.PAIR: 40}), REPLY, HelloRequest((Unit.PAIR, Unit.PATIENT))])
def test_other_messages_arrive_whole(value: Hello | RoundReply | HelloRequest) -> None:
    assert type(value).from_record(wire(value.to_record())) == value


def test_a_refusal_is_told_from_an_answer() -> None:
    assert Refusal.of(Refusal("budget").to_record()) == Refusal("budget")
    assert Refusal.of(REPLY.to_record()) is None


def test_sizes_count_header_body_and_tensors() -> None:
    record = REQUEST.to_record()
    assert size_of(record) == len(record["header"]["json"]) + 4 + 4 * SPEC.size(0)


# -- what is refused ---------------------------------------------------------------------------------------------------


def header(record: RecordDict, change: Callable[[dict[str, object]], object]) -> RecordDict:
    """`record` with its header changed and written canonically again."""
    tree = json.loads(record["header"]["json"])
    change(tree)
    record["header"]["json"] = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    return record


def field(name: str, value: object) -> Callable[[RecordDict], RecordDict]:
    return lambda record: header(record, lambda tree: tree.__setitem__(name, value))


def raw(data: object) -> Callable[[RecordDict], RecordDict]:
    def change(record: RecordDict) -> RecordDict:
        record["header"]["json"] = data  # type: ignore[index]  # what a hostile sender would do
        return record

    return change


def respaced(record: RecordDict) -> RecordDict:
    record["header"]["json"] = json.dumps(json.loads(record["header"]["json"]), sort_keys=True).encode()
    return record


def duplicated_key(record: RecordDict) -> RecordDict:
    record["header"]["json"] = record["header"]["json"].replace(b'"version":2', b'"version":2,"version":2')
    return record


def without(name: str) -> Callable[[RecordDict], RecordDict]:
    return lambda record: header(record, lambda tree: tree.pop(name))


def extra_part(record: RecordDict) -> RecordDict:
    record["metrics"] = MetricRecord({"loss": 0.5})
    return record


def extra_config(record: RecordDict) -> RecordDict:
    record["header"]["note"] = "hello"
    return record


def extra_array(record: RecordDict) -> RecordDict:
    record["arrays"]["tensor/more"] = Array("<f4", (1,), "raw", bytes(4))
    return record


def no_body(record: RecordDict) -> RecordDict:
    del record["arrays"]["body"]
    return record


def body(array: Array) -> Callable[[RecordDict], RecordDict]:
    def change(record: RecordDict) -> RecordDict:
        record["arrays"]["body"] = array
        return record

    return change


COMMON = {
    "another version": (field("version", 1), "speaks protocol version 1, this side 2"),
    "version as bool": (field("version", True), "protocol version"),
    "version as text": (field("version", "2"), "protocol version unknown"),
    "no version": (without("version"), "protocol version unknown"),
    "another kind": (field("kind", "round-requests"), "`kind`"),
    "unknown field": (field("priority", 1), "a field that does not belong there"),
    "missing field": (without("phase"), "`phase`"),
    "wrong type": (field("phase", 3), "`phase`"),
    "a name with a path": (field("phase", "../x"), "`phase`"),
    "spaces in the header": (respaced, "canonical form"),
    "a key twice": (duplicated_key, "canonical form"),
    "not JSON": (raw(b"{"), "not JSON"),
    "not UTF-8": (raw(b"\xff\xfe"), "not JSON"),
    "a list": (raw(b"[]"), "not a JSON object"),
    "deep nesting": (raw(b"[" * 200_000), "not JSON"),
    "header as text": (raw("{}"), "must be bytes"),
    "header too long": (raw(b" " * (MAX_HEADER_BYTES + 1)), "at most 1,048,576"),
    "a third part": (extra_part, "nothing else"),
    "a second entry": (extra_config, "nothing else"),
    "an array too many": (extra_array, "not the ones its header lists"),
    "no body": (no_body, "body"),
    "body of another type": (body(Array("int8", (1,), "raw", b"x")), "not what its description says"),
    "body shorter than said": (body(Array("uint8", (2,), "raw", b"x")), "not what its description says"),
    "body pickled": (body(Array("uint8", (1,), "numpy.ndarray", b"x")), "not what its description says"),
}


@pytest.mark.parametrize("message", [REQUEST, REPLY], ids=["request", "reply"])
@pytest.mark.parametrize("case", COMMON, ids=str)
def test_malformed_messages_are_refused(message: RoundRequest | RoundReply, case: str) -> None:
    change, words = COMMON[case]
    with pytest.raises(ProtocolError, match=words):
        type(message).from_record(change(wire(message.to_record())))


def tensor(array: Array) -> Callable[[RecordDict], RecordDict]:
    def change(record: RecordDict) -> RecordDict:
        name = next(key for key in record["arrays"] if key != "body")
        record["arrays"][name] = array
        return record

    return change


def first_tensor(value: float) -> Callable[[RecordDict], RecordDict]:
    def change(record: RecordDict) -> RecordDict:
        name = next(key for key in record["arrays"] if key != "body")
        data = np.frombuffer(record["arrays"][name].data, "<f4").copy()
        data[3] = value
        record["arrays"][name] = Array("<f4", (7, 2), "raw", data.tobytes())
        return record

    return change


def drop_tensor(record: RecordDict) -> RecordDict:
    name = next(key for key in record["arrays"] if key != "body")
    del record["arrays"][name]
    return record


def study_field(change: Callable[[dict[str, object]], object]) -> Callable[[RecordDict], RecordDict]:
    def apply(record: RecordDict) -> RecordDict:
        tree = json.loads(STUDY.to_json())
        change(tree)
        return field("study", json.dumps(tree, sort_keys=True, separators=(",", ":")))(record)

    return apply


REQUESTS = {
    "a site twice": (field("sites", ["ash", "ash", "cedar"]), ProtocolError, "distinct names"),
    "sites out of order": (field("sites", ["birch", "ash", "cedar"]), ProtocolError, "alphabetical order"),
    "no sites": (field("sites", []), ProtocolError, "`sites`"),
    "negative round": (field("round", -1), ProtocolError, "`round`"),
    "a round that is no number": (field("round", 1.5), ProtocolError, "`round`"),
    "SFT with a member": (field("member", 0), ProtocolError, "SFT rounds have none"),
    "reward without a member": (field("stage", "reward"), ProtocolError, "name their member"),
    "no noise in a private study": (field("noise_multiplier", 0.0), ProtocolError, "a private study adds noise in every round"),
    "negative noise": (field("noise_multiplier", -1.0), ProtocolError, "`noise_multiplier`"),
    "noise that is infinite": (field("noise_multiplier", float("inf")), ProtocolError, "noise_multiplier"),
    "noise that is NaN": (field("noise_multiplier", float("nan")), ProtocolError, "noise_multiplier"),
    "no units": (field("expected_units", 0.0), ProtocolError, "`expected_units`"),
    "digest too short": (field("adapter_digest", "ab"), ProtocolError, "`adapter_digest`"),
    "digest in capitals": (field("base_digest", "A" * 64), ProtocolError, "`base_digest`"),
    "study with an unknown key": (study_field(lambda s: s.__setitem__("fast", True)), WardroundError, "there is no such key"),
    "study that breaks a bound": (study_field(lambda s: s["privacy"].__setitem__("epsilon", 99)), WardroundError, "privacy.epsilon"),  # type: ignore[index]
    "study not canonical": (field("study", STUDY.to_json() + " "), ProtocolError, "canonical form"),
    "study that is not JSON": (field("study", "{"), WardroundError, "study"),
    "tensor cut short": (tensor(Array("<f4", (7, 2), "raw", bytes(52))), ProtocolError, "not what its description says"),
    "tensor of doubles": (tensor(Array("<f8", (7, 2), "raw", bytes(112))), ProtocolError, "not what its description says"),
    "tensor with a negative side": (tensor(Array("<f4", (-7, -2), "raw", bytes(56))), ProtocolError, "not what its description says"),
    "tensor with NaN": (first_tensor(float("nan")), NotFinite, "not finite"),
    "tensor with infinity": (first_tensor(float("inf")), NotFinite, "not finite"),
    "tensor missing": (drop_tensor, ProtocolError, "not the ones its header lists"),
    "tensors listed twice": (
        lambda r: header(r, lambda t: t.__setitem__("tensors", [*t["tensors"], t["tensors"][0]])),  # type: ignore[index, misc]
        ProtocolError,
        "alphabetical order, each once",
    ),
}


@pytest.mark.parametrize("case", REQUESTS, ids=str)
def test_bad_requests_are_refused(case: str) -> None:
    change, error, words = REQUESTS[case]
    with pytest.raises(error, match=words):
        RoundRequest.from_record(change(wire(REQUEST.to_record())))


def test_noise_in_a_study_without_privacy_is_refused() -> None:
    open_study = StudyConfig.model_validate({**STUDY.model_dump(), "privacy": PrivacyConfig(engine=Engine.NONE).model_dump()})
    context = replace(CONTEXT, study_digest=open_study.digest)
    with pytest.raises(ProtocolError, match=r"engine `none` with noise multiplier 0\.75"):
        RoundRequest.from_record(replace(REQUEST, study=open_study, context=context).to_record())


def test_another_adapter_than_the_digest_names_is_refused() -> None:
    moved = first_tensor(0.25)(wire(REQUEST.to_record()))
    with pytest.raises(ProtocolError, match="not the one its digest names"):
        RoundRequest.from_record(moved).adapter(SPEC)


def test_a_tensor_of_another_model_is_refused() -> None:
    foreign = replace(REQUEST, tensors={"base_model.model.other.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(ProtocolError, match="does not belong to the adapter"):
        RoundRequest.from_record(foreign.to_record()).adapter(SPEC)
    with pytest.raises(ProtocolError, match="carries no adapter"):
        RoundRequest.from_record(replace(REQUEST, tensors=None).to_record()).adapter(SPEC)


def test_a_reply_longer_than_asked_for_is_refused() -> None:
    with pytest.raises(ProtocolError, match="has 4 bytes; at most 3"):
        RoundReply.from_record(REPLY.to_record(), max_body_bytes=3)


@pytest.mark.parametrize("units", [{"patient": 0}, {"patient": -1}, {"patient": 1.0}, {"ward": 3}, {"patient": "90"}])
def test_a_hello_with_odd_figures_is_refused(units: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match=r"declared_units|kind this version does not know"):
        Hello.from_record(field("declared_units", units)(wire(Hello("ash", {Unit.PATIENT: 1}).to_record())))


@pytest.mark.parametrize("units", [[], ["patient", "patient"], ["ward"]])
def test_a_hello_request_with_odd_units_is_refused(units: list[str]) -> None:
    with pytest.raises(ProtocolError, match="units"):
        HelloRequest.from_record(field("units", units)(wire(HelloRequest((Unit.PATIENT,)).to_record())))


def test_no_refusal_repeats_what_the_sender_wrote() -> None:
    """A header may hold anything; what a log shows of it is our own words and the names of our own fields."""
    secret = "maria lopez 555-0143"
    for change in (field(secret, 1), field("phase", secret), field("kind", secret), field("study", secret), field("version", secret)):
        with pytest.raises(WardroundError) as caught:
            RoundRequest.from_record(change(wire(REQUEST.to_record())))
        assert "lopez" not in str(caught.value)


# -- laws --------------------------------------------------------------------------------------------------------------

FIELDS = {
    "study_digest": "c" * 64,
    "stage": Stage.REWARD,
    "round": 3,
    "attempt": 1,
    "sites": ("ash", "birch", "doum"),
    "adapter_digest": "d" * 64,
    "base_digest": "e" * 64,
    "exchange": "masked",
    "roster": "f" * 64,
    "noise_multiplier": 0.5,
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_moves_the_transcript(name: str) -> None:
    changed = {name: FIELDS[name]} | ({"member": 0} if name == "stage" else {})
    assert replace(CONTEXT, **changed).transcript() != CONTEXT.transcript()  # type: ignore[arg-type]  # a table of fields


def test_neighbouring_fields_do_not_run_into_each_other() -> None:
    one = replace(CONTEXT, sites=("a", "bc"), round=1, attempt=11)
    two = replace(CONTEXT, sites=("ab", "c"), round=1, attempt=11)
    three = replace(CONTEXT, sites=("a", "bc"), round=11, attempt=1)
    assert len({one.transcript(), two.transcript(), three.transcript()}) == 3


def test_the_transcript_stays_what_it_was() -> None:
    """Known answer: a change here is a change of protocol and raises PROTOCOL_VERSION."""
    context = RoundContext("0" * 64, Stage.REWARD, 1, 7, 2, ("ash", "birch", "cedar"), "1" * 64, "2" * 64, "plain")
    assert context.transcript().hex() == "ea2e06aa5647bb9228c31e64b3296e4eef5809a7f5d3002e0e56e9b647c1ee01"


def test_the_bytes_of_a_reply_stay_what_they_were() -> None:
    record = RoundReply("ash", bytes(32), "update", b"").to_record()
    assert record["header"]["json"] == (
        b'{"kind":"round-reply","phase":"update","site":"ash","transcript":"' + b"0" * 64 + b'","version":2}'
    )


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    record = wire(REPLY.to_record())
    record["header"]["json"] = data
    with pytest.raises(ProtocolError):
        RoundReply.from_record(record)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_changed_byte_is_taken_for_the_same_message(data: st.DataObject) -> None:
    """A changed header is refused, or says openly something else; it never passes for what was sent."""
    record = wire(REPLY.to_record())
    original = bytes(record["header"]["json"])
    place = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda b: b != original[place]))
    record["header"]["json"] = original[:place] + bytes([value]) + original[place + 1 :]
    with contextlib.suppress(ProtocolError):
        assert RoundReply.from_record(record) != REPLY
