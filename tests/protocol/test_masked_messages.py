"""Parsers of the masked exchange: one encoding a value, every refusal by name, and no bytes that end in anything but a refusal."""

import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import ProtocolError, RosterRefused, WardroundError
from common.secure.masked.messages import (
    ADVERTISE_BYTES,
    Advertise,
    Masked,
    Shares,
    Unmask,
    boxes_from_bytes,
    boxes_to_bytes,
    keys_from_bytes,
    keys_to_bytes,
    signed_from_bytes,
    signed_to_bytes,
    signers_from_bytes,
    signers_to_bytes,
    survivors_from_bytes,
    survivors_to_bytes,
)
from common.secure.masked.site import PHASES, Credentials, MaskedSite
from common.secure.masked.state import SiteState
from common.secure.roster import open_roster
from tests.helpers.masked import COORDINATOR, NAMES, NOW, Hospitals, drive, key_of, roster_of

SITES = NAMES[:4]


def recorded() -> dict[str, bytes]:
    """One honest attempt: phase and direction → what site-1 was sent or answered."""
    found: dict[str, bytes] = {}

    def keep(name: str) -> Callable[[str, str, bytes], bytes]:
        def look(phase: str, site: str, data: bytes) -> bytes:
            if site == "site-1":
                found[f"{phase} {name}"] = data
            return data

        return look

    hospitals = Hospitals(SITES)
    drive(hospitals, hospitals.coordinator(), request=keep("request"), reply=keep("reply"))
    return found


SENT = recorded()
PARSERS: Mapping[str, tuple[Callable[[bytes], object], Callable[..., bytes]]] = {
    "advertise reply": (Advertise.from_bytes, Advertise.to_bytes),
    "share request": (keys_from_bytes, keys_to_bytes),
    "share reply": (Shares.from_bytes, Shares.to_bytes),
    "update request": (boxes_from_bytes, boxes_to_bytes),
    "update reply": (Masked.from_bytes, Masked.to_bytes),
    "survivors request": (survivors_from_bytes, survivors_to_bytes),
    "survivors reply": (signed_from_bytes, signed_to_bytes),
    "unmask request": (signers_from_bytes, signers_to_bytes),
    "unmask reply": (Unmask.from_bytes, Unmask.to_bytes),
}


@pytest.mark.parametrize("message", PARSERS)
def test_a_message_is_read_and_written_with_the_same_bytes(message: str) -> None:
    read, write = PARSERS[message]
    assert write(read(SENT[message])) == SENT[message]


@pytest.mark.parametrize("message", PARSERS)
def test_a_message_of_another_kind_cut_short_or_too_long_is_refused(message: str) -> None:
    read, _ = PARSERS[message]
    data = SENT[message]
    cases = [b"", data[:-1], b"\x00" + data[1:], bytes(2**16)]
    if message == "update reply":
        cases.remove(data[:-1])  # the length of the words is the coordinator's to know: it refuses there
    else:
        cases.append(data + b"\0")
    for case in cases:
        with pytest.raises(ProtocolError):
            read(case)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"\x06\x00\x00", "a list of 0 sites"),
        (b"\x06\x01\x01" + bytes(514), "a list of 257 sites"),
        (b"\x06\x00\x02\x00\x01\x00\x01", "ascending order, each once"),
        (b"\x06\x00\x02\x00\x02\x00\x01", "ascending order, each once"),
        (b"\x06\x00\x01\x01\x00", "ascending order, each once"),
        (b"\x06\x00\x02\x00\x01", "cut short"),
        (b"\x07\x00\x01\x00\x01", "tag 7 arrived where 6 is due"),
    ],
)
def test_a_list_has_one_form(body: bytes, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        survivors_from_bytes(body)


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` with a byte changed, a part cut out, doubled or exchanged; or anything at all."""
    places = st.integers(0, max(0, len(data) - 1))

    def cut(pair: tuple[int, int]) -> bytes:
        return data[: min(pair)] + data[max(pair) :]

    def double(pair: tuple[int, int]) -> bytes:
        return data[: max(pair)] + data[min(pair) :]

    def change(edit: tuple[int, int]) -> bytes:
        return data[: edit[0]] + bytes([edit[1]]) + data[edit[0] + 1 :]

    return st.one_of(
        st.binary(max_size=2 * ADVERTISE_BYTES),
        st.binary(max_size=40).map(lambda tail: data[:3] + tail),
        st.tuples(places, st.integers(0, 255)).map(change),
        st.tuples(places, places).map(cut),
        st.tuples(places, places).map(double),
    )


def parse_or_refuse(message: str, data: bytes) -> None:
    read, write = PARSERS[message]
    try:
        value = read(data)
    except WardroundError:
        return
    assert write(value) == data, "two encodings of one value"


@pytest.mark.parametrize("message", PARSERS)
def test_no_bytes_break_a_parser(message: str) -> None:
    @settings(max_examples=150, deadline=None, database=None)
    @given(mutated(SENT[message]))
    def fuzz(data: bytes) -> None:
        parse_or_refuse(message, data)

    fuzz()


def test_no_bytes_break_the_state_or_the_roster() -> None:
    hospitals = Hospitals(SITES)
    hospitals.ask("site-1", "advertise", b"")
    state, roster = hospitals.kept["site-1"], roster_of(SITES).sign(COORDINATOR)

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        for read, honest in ((SiteState.from_bytes, state), (open_roster, roster)):
            changed = data.draw(mutated(honest))
            try:
                read(changed)  # type: ignore[operator]  # two readers of bytes
            except WardroundError:
                continue
            assert read == SiteState.from_bytes or changed == honest, "a changed roster was taken for a signed one"

    fuzz()


def whole_exchange_with(message: str, data: bytes) -> None:
    """An attempt in which site-1 is sent, or answers, `data` in the place of one message: it ends with the sum or a refusal."""
    hospitals = Hospitals(SITES)
    phase, direction = message.split()

    def put_in(at: str, site: str, honest: bytes) -> bytes:
        return data if (at, site) == (phase, "site-1") else honest

    try:
        summed, _ = drive(hospitals, hospitals.coordinator(), **{direction: put_in})
    except WardroundError:
        return
    left = tuple(site for site in SITES if site in summed.survivors)
    assert summed.survivors == left


@pytest.mark.parametrize("message", PARSERS)
def test_no_bytes_break_an_exchange(message: str) -> None:
    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(mutated(SENT[message]))
    def fuzz(data: bytes) -> None:
        whole_exchange_with(message, data)

    fuzz()


FUZZ_SECONDS = 600.0


@pytest.mark.slow
@pytest.mark.timeout(2 * FUZZ_SECONDS)
def test_no_bytes_break_anything_in_ten_minutes() -> None:
    end, tried = time.monotonic() + FUZZ_SECONDS, Counter[str]()
    while time.monotonic() < end:
        for message in PARSERS:
            pound(message, tried)
    assert set(tried) == set(PARSERS) | {"whole exchange"}
    print(f"{tried.total() - tried['whole exchange']:,} messages, {tried['whole exchange']:,} of them through a whole exchange; no crash")  # noqa: T201  # the figure of a slow test


def pound(message: str, tried: Counter[str]) -> None:
    """300 changes of one message; about a tenth of them go through a whole exchange too."""

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutated(SENT[message]))
    def fuzz(data: bytes) -> None:
        tried[message] += 1
        parse_or_refuse(message, data)
        if zlib.crc32(data) % 10 == 0:
            tried["whole exchange"] += 1
            whole_exchange_with(message, data)

    fuzz()


# -- what a site refuses by name ---------------------------------------------------------------------------------------


def test_every_phase_is_answered_once_and_in_order() -> None:
    hospitals = Hospitals(SITES)
    for phase in PHASES[1:]:
        with pytest.raises(ProtocolError, match=f"phase `{phase}` does not follow what this site answered last"):
            hospitals.ask("site-1", phase, SENT[f"{phase} request"])
    hospitals.ask("site-1", "advertise", b"")
    with pytest.raises(ProtocolError, match="a repeat needs a new attempt"):
        hospitals.ask("site-1", "advertise", b"")
    with pytest.raises(ProtocolError, match="the masked exchange has the phases"):
        hospitals.ask("site-1", "metrics", b"")


def test_what_was_answered_in_another_round_does_not_count() -> None:
    hospitals = Hospitals(SITES)
    hospitals.ask("site-1", "advertise", b"")
    for changes in ({"round": 1}, {"attempt": 1}, {"study_digest": "9" * 64}, {"adapter_digest": "9" * 64}, {"noise_multiplier": 0.5}):
        with pytest.raises(ProtocolError, match="does not follow"):
            hospitals.ask("site-1", "share", SENT["share request"], replace(hospitals.context, **changes))  # type: ignore[arg-type]  # a table


def test_nothing_is_kept_or_trained_after_a_refusal() -> None:
    hospitals = Hospitals(SITES, update=lambda site: pytest.fail("nothing may be trained"))
    hospitals.ask("site-1", "advertise", b"")
    before = dict(hospitals.kept)
    for body in (SENT["share request"], b"", bytes(100)):
        with pytest.raises(ProtocolError):
            hospitals.ask("site-1", "share", body)
    assert hospitals.kept == before


def test_another_expired_or_foreign_roster_is_refused() -> None:
    hospitals, roster = Hospitals(SITES), roster_of(SITES)
    me = Credentials("site-1", key_of("site-1"), roster, NOW)

    def ask(credentials: Credentials, **changes: object) -> None:
        context = replace(hospitals.context, **changes)  # type: ignore[arg-type]  # a test's shorthand
        MaskedSite(credentials).reply(context, "advertise", b"", b"", lambda: pytest.fail("nothing may be trained"))

    with pytest.raises(RosterRefused, match="another roster than version 2"):
        ask(replace(me, roster=roster_of(SITES, 2)))
    with pytest.raises(RosterRefused, match="expired"):
        ask(replace(me, now=NOW + timedelta(days=31)))
    with pytest.raises(RosterRefused, match="another key than this site holds"):
        ask(replace(me, key=key_of("site-2")))
    with pytest.raises(RosterRefused, match="`site-9` is not in version 1"):
        ask(me, sites=(*SITES, "site-9"))
    with pytest.raises(ProtocolError, match="not a masked one"):
        ask(me, exchange="plain")


def test_secrets_are_wiped_as_soon_as_they_are_of_no_use() -> None:
    hospitals, states = Hospitals(SITES), {}
    exchange = hospitals.coordinator()
    while (phase := exchange.requests()) is not None:
        for site, body in phase.requests.items():
            exchange.receive(site, hospitals.ask(site, phase.name, body))
        exchange.close_phase()
        states[phase.name] = SiteState.from_bytes(hospitals.kept["site-1"])
    assert all(getattr(states["share"], name) for name in ("box_key", "mask_key", "seed"))
    assert not any(getattr(states["update"], name) for name in ("box_key", "mask_key", "seed"))
    last = states["unmask"]
    assert (last.shares, last.words, last.keys) == ({}, "", "")
    assert last.opened is not None
    assert last.opened.survivors == SITES
    assert "hidden" not in repr(states["share"])
    assert repr(states["share"]) == "SiteState(share)"
