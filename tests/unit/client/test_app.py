"""The door of the hospital: codes instead of text, an audit row for everything that leaves, and nothing sent that could not be written down."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

import client.app
from client.app import app, site_folder
from client.federate.egress import record_egress
from client.hospital.site import AUDIT_FILE, Site
from client.train.noise import NoiseSource, SeededNoise, SystemNoise
from client.train.round_work import NoisyUpdate, RoundWork
from common.errors import BudgetExhausted, ConfigError, GateRefused, NotFinite, StorageError, WardroundError
from common.journal import Journal
from common.models import SharedBase
from common.privacy.mechanism import Unit
from common.protocol import HELLO_MESSAGE, ROUND_MESSAGE, Hello, HelloRequest, Refusal, RoundReply, size_of
from simulations.machine.grid import identity
from tests.unit.client.test_participation import PERMITS_PLAIN, request

SECRET = "maria lopez 555-0143"
HELLO = HelloRequest((Unit.PATIENT,)).to_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Site.create(tmp_path / "ash", "ash", PERMITS_PLAIN, declared_units={Unit.PATIENT: 90}).close()
    return tmp_path / "ash"


def send(folder: Path | None, record: RecordDict, kind: str = ROUND_MESSAGE, group: str = "sft/0/0", **run_config: str) -> RecordDict:
    """What comes out of the app for one message."""
    with identity():
        message = Message(record, dst_node_id=7, message_type=kind, group_id=group)
        message.metadata.__dict__["_message_id"] = "m"
        context = Context(1, 7, {"site-dir": str(folder)} if folder else {}, RecordDict(), dict(run_config))
        reply = app(message, context)
    assert reply.has_content(), "an error message of Flower would carry text"
    return reply.content


def training(result: Callable[[RoundWork], np.ndarray]) -> Callable[..., NoisyUpdate]:
    def run(work: RoundWork, site: Site, base: SharedBase, *, noise: NoiseSource) -> NoisyUpdate:
        assert isinstance(noise, SystemNoise), "a real site never draws from a seed"
        return NoisyUpdate(result(work), work.study.privacy.clip_norm * 2.0**-16, work.expected_units, True, noise.simulated)

    return run


def rows(folder: Path, kind: str) -> list[dict]:
    return [dict(row.body) for row in Journal.open(folder / AUDIT_FILE).rows() if row.kind == kind]


def test_a_round_goes_through_the_door(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.train.update.run_round", training(lambda work: np.full(work.adapter.spec.size(work.round), -3, np.int32)))
    record = send(folder, request().to_record())
    reply = RoundReply.from_record(record)
    assert (reply.site, reply.transcript) == ("ash", request().context.transcript())
    assert set(np.frombuffer(reply.body, "<i4").tolist()) == {-3}
    (row,) = rows(folder, "egress")
    assert (row["schema"], row["bytes"], row["about"]) == ("round-reply/2", size_of(record), "sft/0/0")
    assert row["at"].endswith("+00:00")


def test_only_a_site_made_for_a_simulation_draws_from_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[NoiseSource] = []

    def run(work: RoundWork, site: Site, base: SharedBase, *, noise: NoiseSource) -> NoisyUpdate:
        sources.append(noise)
        return NoisyUpdate(
            np.zeros(work.adapter.spec.size(0), np.int32), work.study.privacy.clip_norm * 2.0**-16, 9.0, True, noise.simulated
        )

    monkeypatch.setattr("client.train.update.run_round", run)
    for name, seed in (("real", None), ("made", 7)):
        Site.create(tmp_path / name, "ash", PERMITS_PLAIN, declared_units={Unit.PATIENT: 90}, simulated_seed=seed).close()
        RoundReply.from_record(send(tmp_path / name, request().to_record()))
    assert [type(source) for source in sources] == [SystemNoise, SeededNoise]


def test_hello_is_written_down_too(folder: Path) -> None:
    assert Hello.from_record(send(folder, HELLO(), HELLO_MESSAGE, "hello")).site == "ash"
    assert [(row["schema"], row["about"]) for row in rows(folder, "egress")] == [("hello-reply/2", "hello")]


ERRORS: list[Exception] = [
    BudgetExhausted("ε 7.9 of 8 is spent"),
    GateRefused("no token"),
    NotFinite("3 numbers"),
    WardroundError("unexpected"),
    ValueError(SECRET),
    KeyError(SECRET),
    MemoryError(SECRET),
    RecursionError(SECRET),
    UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    FileNotFoundError(2, SECRET, SECRET),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_whatever_happens_inside_leaves_as_a_code(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> NoisyUpdate:
        raise error

    monkeypatch.setattr("client.train.update.run_round", fail)
    record = send(folder, request().to_record())
    code = error.code if isinstance(error, WardroundError) else "failed"
    assert Refusal.of(record) == Refusal(code)
    assert "lopez" not in str(record)
    (refusal,) = rows(folder, "refusal")
    (egress,) = rows(folder, "egress")
    assert (refusal["code"], egress["schema"]) == (code, "refusal/2")
    assert "lopez" not in json.dumps(refusal), "not even the hospital's own log repeats the text of an unknown error"
    if isinstance(error, BudgetExhausted):
        assert refusal["reason"] == "ε 7.9 of 8 is spent"


def test_a_malformed_request_is_refused_by_code(folder: Path) -> None:
    assert Refusal.of(send(folder, RecordDict())) == Refusal("protocol")
    assert Refusal.of(send(folder, HELLO())) == Refusal("protocol")
    assert len(rows(folder, "egress")) == 2


def test_a_refusal_cannot_be_made_too_long_for_the_audit_log(folder: Path) -> None:
    """Twin: the same reason, uncut, fits into no row, and the refused request would leave no trace."""
    asked = request().to_record()
    header = json.loads(asked["header"]["json"])
    header["study"] = json.dumps({"\u00e9" * 100_000: 1}, ensure_ascii=False)
    asked["header"] = ConfigRecord({"json": json.dumps(header, sort_keys=True, separators=(",", ":")).encode()})
    assert Refusal.of(send(folder, asked)) == Refusal("config")
    (refusal,) = rows(folder, "refusal")
    assert "there is no such key" not in refusal["reason"], "the key alone is longer than what is kept"
    assert len(refusal["reason"]) <= 2_000
    with pytest.raises(StorageError, match="larger than"):
        Journal.open(folder / AUDIT_FILE).append("refusal", {"reason": "\u00e9" * 200_000})


def test_what_cannot_be_written_down_does_not_leave(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.train.update.run_round", training(lambda work: np.zeros(work.adapter.spec.size(work.round), np.int32)))

    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(client.app, "record_egress", full)
    assert Refusal.of(send(folder, request().to_record())) == Refusal("storage")


def test_a_broken_audit_log_stops_the_site(folder: Path) -> None:
    send(folder, HELLO(), HELLO_MESSAGE, "hello")
    send(folder, HELLO(), HELLO_MESSAGE, "hello")
    path = folder / AUDIT_FILE
    path.write_text(path.read_text().replace("hello-reply/2", "hello-reply/1", 1))
    assert Refusal.of(send(folder, HELLO(), HELLO_MESSAGE, "hello")) == Refusal("journal")


@pytest.mark.parametrize("missing", ["site.toml", "vault.key", "policy.toml"])
def test_a_site_that_cannot_be_opened_says_only_a_code(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    assert Refusal.of(send(folder, HELLO(), HELLO_MESSAGE)) in (Refusal("storage"), Refusal("config"))


def test_an_interrupt_is_not_swallowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> NoisyUpdate:
        raise builtins.KeyboardInterrupt

    monkeypatch.setattr("client.train.update.run_round", stop)
    with pytest.raises(KeyboardInterrupt):
        send(folder, request().to_record())


# -- which site a node is ----------------------------------------------------------------------------------------------


def context(node: dict[str, object], run: dict[str, object]) -> Context:
    return Context(1, 7, node, RecordDict(), run)  # type: ignore[arg-type]  # a test's shorthand


def test_a_node_finds_its_site(tmp_path: Path) -> None:
    for name in ("cedar", "ash", "birch"):
        (tmp_path / name).mkdir()
    simulated = {"num-partitions": 3}
    assert site_folder(context({"site-dir": "/srv/site"}, {"sites-dir": str(tmp_path)})) == Path("/srv/site")
    found = [site_folder(context({**simulated, "partition-id": i}, {"sites-dir": str(tmp_path)})).name for i in range(3)]
    assert found == ["ash", "birch", "cedar"]
    with pytest.raises(ConfigError, match="holds 3 sites and Flower simulates 2 nodes"):
        site_folder(context({"num-partitions": 2, "partition-id": 0}, {"sites-dir": str(tmp_path)}))
    with pytest.raises(ConfigError, match="does not know its site"):
        site_folder(context({}, {"sites-dir": ""}))
    assert Refusal.of(send(None, HELLO(), HELLO_MESSAGE)) == Refusal("config")
    assert Refusal.of(send(None, HELLO(), HELLO_MESSAGE, **{"sites-dir": "/nowhere"})) == Refusal("config")


def test_egress_rows_carry_the_hour_they_are_given(folder: Path) -> None:
    from datetime import UTC, datetime

    record_egress(
        Journal.open(folder / AUDIT_FILE), "round-reply/2", 12, "sft/3/0", now=lambda: datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    )
    assert rows(folder, "egress")[0]["at"] == "2026-01-02T03:04:05+00:00"
