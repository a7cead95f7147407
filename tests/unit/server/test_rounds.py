"""The federated loop on real messages: exact sums, survivors, deadlines, repeats, checkpoints, and an exchange with several phases."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from common.config import AdapterConfig, Factors, StudyConfig
from common.errors import BudgetExhausted, ConfigError, TooFewSurvivors
from common.protocol import Refusal, RoundReply, RoundRequest
from common.secure.context import RoundContext
from common.secure.exchange import CoordinatorExchange, Phase, Summed, Words
from common.secure.fixedpoint import from_words, words_from_bytes, words_to_bytes
from server.federate.checkpoint import RoundRecord, load_state, save_state
from server.federate.rounds import TRIES, Federation, federate
from simulations.machine.grid import Fault, LocalGrid, When, identity
from tests.helpers.federation import (
    SPEC,
    FakeClock,
    federation,
    known_words,
    post,
    site_folders,
    study,
    toy_app,
    toy_grid,
)

SITES = ("ash", "birch", "cedar", "doum")


def run(
    root: Path,
    config: StudyConfig,
    app: ClientApp | None = None,
    faults: Iterable[Fault] = (),
    clock: FakeClock | None = None,
    checkpoint: Path | None = None,
    **fields: object,
) -> tuple[Federation, tuple[RoundRecord, ...], np.ndarray]:
    plan = federation(config, SITES, **fields)
    with identity():
        state = federate(plan, post(toy_grid(root, SITES, app, faults), SITES, clock), checkpoint or root / "state.safetensors")
    return plan, state.records, state.adapter.vector(0)


def by_hand(config: StudyConfig, plan: Federation, survivors: list[tuple[str, ...]]) -> np.ndarray:
    """FedAdam on exact weighted means, in float64, written from the formula rather than from the code."""
    theta = plan.initial.vector(0).astype(np.float64)
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    beta, decay, rate = config.sft.server_momentum, 0.99, config.sft.server_learning_rate
    for number, present in enumerate(survivors):
        words = sum(known_words(site, number, theta.size).astype(np.int64) for site in present)
        mean = words * plan.grid / sum(plan.cohort.expected_units[site] for site in present)
        first, second = beta * first + (1 - beta) * mean, decay * second + (1 - decay) * mean**2
        theta += rate * (first / (1 - beta ** (number + 1))) / (np.sqrt(second / (1 - decay ** (number + 1))) + 1e-8)
    return theta


def test_three_rounds_equal_the_formula(tmp_path: Path) -> None:
    config = study()
    plan, records, vector = run(tmp_path, config)
    np.testing.assert_allclose(vector, by_hand(config, plan, [SITES] * 3), rtol=2e-5, atol=1e-7)
    assert [record.survivors for record in records] == [SITES] * 3
    assert all(record.missing == {} and record.attempt == 0 for record in records)
    # Four sites, four bytes a word, and a header each; the message of the way down carries the adapter once round 0 moved it.
    assert all(4 * 4 * SPEC.size(0) < record.bytes_up < 4 * (4 * SPEC.size(0) + 1000) for record in records)
    assert records[1].bytes_down > records[0].bytes_down + 4 * 4 * SPEC.size(0) - 100


@pytest.mark.parametrize("when", list(When))
def test_a_dropout_leaves_both_sums(tmp_path: Path, when: When) -> None:
    config = study()
    plan, records, vector = run(tmp_path, config, faults=[Fault("birch", "sft", 1, when)])
    assert records[1].survivors == ("ash", "cedar", "doum")
    assert records[1].missing == {"birch": "unreachable"}
    np.testing.assert_allclose(vector, by_hand(config, plan, [SITES, ("ash", "cedar", "doum"), SITES]), rtol=2e-5, atol=1e-7)


def test_too_few_survivors_stop_the_run_and_name_the_missing(tmp_path: Path) -> None:
    faults = [Fault("ash", "sft", 1), Fault("doum", "sft", 1)]
    with pytest.raises(
        TooFewSurvivors, match=r"2 of 4 sites answered round 1 of `sft`, and the study needs 3.*ash unreachable, doum unreachable"
    ):
        run(tmp_path, study(), faults=faults)
    plan, records, vector = run(tmp_path, study())  # the faults are gone: the run goes on from round 1
    np.testing.assert_array_equal(vector, run(tmp_path / "whole", study())[2])
    assert len(records) == 3
    assert plan.line == "sft"


def refusing(code: str, sites: tuple[str, ...], asked: list[str]) -> ClientApp:
    inner = toy_app()
    app = ClientApp()

    @app.train("round")
    def one_round(message: Message, context: Context) -> Message:
        name = Path(str(context.node_config["site-dir"])).name
        asked.append(name)
        if name in sites:
            return Message(Refusal(code).to_record(), reply_to=message)
        return inner(message, context)

    return app


def test_a_refusal_for_good_is_not_asked_again(tmp_path: Path) -> None:
    asked: list[str] = []
    with pytest.raises(TooFewSurvivors, match="ash budget, birch budget"):
        run(tmp_path, study(), refusing(BudgetExhausted.code, ("ash", "birch"), asked))
    assert asked == list(SITES)


def test_a_passing_failure_is_asked_again_and_only_the_missing_are(tmp_path: Path) -> None:
    asked: list[str] = []
    with pytest.raises(TooFewSurvivors, match="ash storage, birch storage"):
        run(tmp_path, study(), refusing("storage", ("ash", "birch"), asked))
    assert asked == list(SITES) + ["ash", "birch"] * (TRIES - 1)


class Sleeper(LocalGrid):
    """A grid on which some sites answer only `delay` seconds after they were asked."""

    clock: FakeClock
    slow: frozenset[str]
    delay: float

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ready = []
        for message_id in message_ids:
            message = self._waiting.get(message_id)
            site = self._nodes[message.metadata.dst_node_id].folder.name if message else ""
            if site not in self.slow or self.clock.now() >= self.delay:
                ready.append(message_id)
        return super().pull_messages(ready)


@pytest.mark.parametrize(("delay", "survivors"), [(9.0, SITES), (11.0, ("ash", "birch", "doum"))])
def test_the_deadline_closes_a_round(tmp_path: Path, delay: float, survivors: tuple[str, ...]) -> None:
    config = study(rounds=1, round_timeout_seconds=10.0)
    grid = Sleeper(toy_app(), site_folders(tmp_path, SITES))
    grid.clock, grid.slow, grid.delay = FakeClock(), frozenset({"cedar"}), delay
    with identity():
        state = federate(federation(config, SITES), post(grid, SITES, grid.clock), tmp_path / "state")
    (record,) = state.records
    assert record.survivors == survivors
    assert record.missing == ({} if survivors == SITES else {"cedar": "late"})
    assert record.seconds == pytest.approx(min(delay, 10.0), abs=3.0)


# -- replies that do not belong ----------------------------------------------------------------------------------------


def tampering(change: Callable[[RoundReply, RoundRequest], RecordDict]) -> ClientApp:
    """birch answers with something else; the others are honest."""
    inner = toy_app()
    app = ClientApp()

    @app.train("round")
    def one_round(message: Message, context: Context) -> Message:
        request = RoundRequest.from_record(message.content)
        reply = inner(message, context)
        if not str(context.node_config["site-dir"]).endswith("birch"):
            return reply
        return Message(change(RoundReply.from_record(reply.content), request), reply_to=message)

    return app


def other(reply: RoundReply, **fields: object) -> RecordDict:
    values = {"site": reply.site, "transcript": reply.transcript, "phase": reply.phase, "body": reply.body}
    return RoundReply(**{**values, **fields}).to_record()  # type: ignore[arg-type]  # a test's shorthand


def _another_round(reply: RoundReply, request: RoundRequest) -> RecordDict:
    c = request.context
    replayed = RoundContext(c.study_digest, c.stage, c.member, c.round + 1, c.attempt, c.sites, c.adapter_digest, c.base_digest)
    return other(reply, transcript=replayed.transcript())


def _another_sender(reply: RoundReply, request: RoundRequest) -> RecordDict:
    return other(reply, site="ash")


def _another_phase(reply: RoundReply, request: RoundRequest) -> RecordDict:
    return other(reply, phase="unmask")


def _a_word_short(reply: RoundReply, request: RoundRequest) -> RecordDict:
    return other(reply, body=reply.body[:-4])


def _a_byte_short(reply: RoundReply, request: RoundRequest) -> RecordDict:
    return other(reply, body=reply.body[:-1])


def _a_megabyte_long(reply: RoundReply, request: RoundRequest) -> RecordDict:
    return other(reply, body=reply.body + bytes(2**20))


def _words_that_wrap(reply: RoundReply, request: RoundRequest) -> RecordDict:
    words = words_from_bytes(reply.body, SPEC.size(0)).copy()
    words[3] = 2**31 - 1
    return other(reply, body=words_to_bytes(words))


def _the_request_itself(reply: RoundReply, request: RoundRequest) -> RecordDict:
    return request.to_record()


def _nothing(reply: RoundReply, request: RoundRequest) -> RecordDict:
    return RecordDict()


@pytest.mark.parametrize(
    "change",
    [
        _another_round, _another_sender, _another_phase, _a_word_short, _a_byte_short, _a_megabyte_long, _words_that_wrap,
        _the_request_itself, _nothing,
    ],
    ids=lambda f: f.__name__.strip("_"),
)  # fmt: skip
def test_a_reply_that_does_not_belong_is_left_out(tmp_path: Path, change: Callable[[RoundReply, RoundRequest], RecordDict]) -> None:
    config = study(rounds=1)
    plan, records, vector = run(tmp_path, config, tampering(change))
    assert records[0].survivors == ("ash", "cedar", "doum")
    assert records[0].missing == {"birch": "protocol"}
    np.testing.assert_allclose(vector, by_hand(config, plan, [("ash", "cedar", "doum")]), rtol=2e-5, atol=1e-7)


def test_a_raising_site_is_a_missing_site(tmp_path: Path) -> None:
    app = ClientApp()  # knows no `train.round`, so every message raises
    with pytest.raises(TooFewSurvivors, match="ash unreachable, birch unreachable, cedar unreachable, doum unreachable"):
        run(tmp_path, study(rounds=1), app)


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"server_optimizer": "sgd", "warmup_rounds": 3}], ids=["adam", "sgd"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, settings: dict[str, object]) -> None:
    whole = run(tmp_path / "whole", study(rounds=5, **settings))
    faults = [Fault(site, "sft", 3) for site in SITES]  # round 3 cannot close: the run stops with three rounds on the disk
    with pytest.raises(TooFewSurvivors):
        run(tmp_path / "resumed", study(rounds=5, **settings), faults=faults)
    seen: list[RoundRequest] = []
    resumed = run(tmp_path / "resumed", study(rounds=5, **settings), toy_app(seen=seen))
    np.testing.assert_array_equal(resumed[2], whole[2])
    assert {request.context.round for request in seen} == {3, 4}
    assert [(r.round, r.survivors, r.bytes_up, r.bytes_down, r.update_norm) for r in resumed[1]] == [
        (r.round, r.survivors, r.bytes_up, r.bytes_down, r.update_norm) for r in whole[1]
    ]


def test_alternating_factors_resume_with_the_same_bits(tmp_path: Path) -> None:
    """RoLoRA: round 0 moves B, round 1 A, …; each tensor has its own moments and its own count of steps."""
    spec = replace(SPEC, config=AdapterConfig(rank=2, factors=Factors.ROLORA))

    def go(root: Path, faults: Iterable[Fault] = ()) -> dict[str, np.ndarray]:
        config = study(rounds=4)
        plan = federation(config, SITES, initial=spec.initial())
        with identity():
            grid = toy_grid(root, SITES, toy_app(spec=lambda request: spec), faults)
            state = federate(plan, post(grid, SITES), root / "state")
        assert {name: moments.steps for name, moments in state.moments.items()} == dict.fromkeys((t.name for t in spec.tensors), 2)
        return dict(state.adapter.tensors)

    whole = go(tmp_path / "whole")
    with pytest.raises(TooFewSurvivors):
        go(tmp_path / "cut", faults=[Fault(site, "sft", 2) for site in SITES])
    resumed = go(tmp_path / "cut")
    for name, tensor in whole.items():
        np.testing.assert_array_equal(resumed[name], tensor)
        assert not np.array_equal(tensor, spec.initial().tensors[name])


def test_a_killed_process_resumes_with_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL in the middle of round 2: the answers of two sites are in, the checkpoint holds round 1."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from tests.unit.server.test_rounds import run, study
        from tests.helpers.federation import known_words, toy_app

        def words(site, number, size):
            if (number, site) == (2, "cedar"):
                os.kill(os.getpid(), signal.SIGKILL)
            return known_words(site, number, size)

        run(Path(sys.argv[1]), study(rounds=4), toy_app(words))
        """
    )
    folder = tmp_path / "killed"
    root = Path(__file__).resolve().parents[3]
    killed = subprocess.run([sys.executable, "-c", script, folder], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    state = load_state(folder / "state.safetensors", SPEC, federation(study(rounds=4), SITES).binding)
    assert state is not None
    assert state.next_round == 2
    np.testing.assert_array_equal(run(folder, study(rounds=4))[2], run(tmp_path / "whole", study(rounds=4))[2])


def test_a_checkpoint_of_another_study_is_refused(tmp_path: Path) -> None:
    run(tmp_path, study(rounds=1))
    with pytest.raises(ConfigError, match="belongs to another study, base model or starting adapter"):
        run(tmp_path, study(rounds=2))


def test_a_finished_stage_asks_nobody(tmp_path: Path) -> None:
    first = run(tmp_path, study())
    seen: list[RoundRequest] = []
    again = run(tmp_path, study(), toy_app(seen=seen))
    assert not seen
    np.testing.assert_array_equal(first[2], again[2])


def test_a_sum_that_could_wrap_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    seen: list[RoundRequest] = []
    with pytest.raises(ConfigError, match="the sum could wrap; split the sites into cohorts"):
        run(tmp_path, study(), toy_app(seen=seen), noise_multiplier=5000.0)
    assert not seen


def test_noise_in_shares_needs_an_exchange_that_hides_them(tmp_path: Path) -> None:
    seen: list[RoundRequest] = []
    shares = StudyConfig.model_validate({**study().model_dump(), "privacy": {"noise_multiplier": 1.0, "placement": "sum"}})
    with pytest.raises(ConfigError, match=r"exchange `plain` shows the coordinator each update"):
        run(tmp_path, shares, toy_app(seen=seen))
    assert not seen


# -- an exchange with two phases and state, as a masking one has --------------------------------------------------------


class OffsetSite:
    """Phase 1: agree to an offset and keep it. Phase 2: words plus the offset. Shows that the loop carries phases and state."""

    name, hides_updates = "offset", False

    def reply(self, context: RoundContext, phase: str, request: bytes, state: bytes, words: Callable[[], Words]) -> tuple[bytes, bytes]:
        if phase == "offer":
            assert not state
            return request, b"agreed"
        return b"", words_to_bytes(words() + np.uint32(int.from_bytes(state, "big")))


class OffsetCoordinator:
    name, replayable = "offset", False

    def __init__(self, context: RoundContext, length: int, min_survivors: int) -> None:
        self.context, self.length, self.min = context, length, min_survivors
        self.phase, self.agreed, self.sum, self.heard = 0, [], np.zeros(length, np.uint32), []

    def offset(self, site: str) -> bytes:
        return (7 * self.context.sites.index(site) + self.context.attempt).to_bytes(4, "big")

    def requests(self) -> Phase | None:
        if self.phase == 0:
            return Phase("offer", False, {site: self.offset(site) for site in self.context.sites})
        return Phase("words", True, dict.fromkeys(self.agreed, b"")) if self.phase == 1 else None

    def receive(self, site: str, reply: bytes) -> None:
        if self.phase == 0:
            self.agreed.append(site)
            return
        self.sum += words_from_bytes(reply, self.length) - np.uint32(int.from_bytes(self.offset(site), "big"))
        self.heard.append(site)

    def close_phase(self) -> None:
        here = self.agreed if self.phase == 0 else self.heard
        if len(here) < self.min:
            raise TooFewSurvivors(f"{len(here)} sites in phase {self.phase}")
        self.phase += 1

    def result(self) -> Summed:
        return Summed(from_words(self.sum).astype(np.int64), tuple(sorted(self.heard)))


class OffsetExchange:
    name, hides_updates, roster = "offset", False, None

    def __init__(self) -> None:
        self.attempts: list[int] = []

    def open(self, context: RoundContext, length: int, min_survivors: int, agreed: tuple[str, ...] = ()) -> CoordinatorExchange:
        self.attempts.append(context.attempt)
        return OffsetCoordinator(context, length, min_survivors)


def test_an_exchange_with_phases_gives_the_same_adapter(tmp_path: Path) -> None:
    seen: list[RoundRequest] = []
    two = run(tmp_path / "two", study(), toy_app(exchange=OffsetSite(), seen=seen), exchange=OffsetExchange())
    np.testing.assert_array_equal(two[2], run(tmp_path / "plain", study())[2])
    assert {(request.phase, request.tensors is None) for request in seen} == {("offer", True), ("words", False)}


def test_an_exchange_that_cannot_be_replayed_uses_each_attempt_once(tmp_path: Path) -> None:
    exchange = OffsetExchange()
    with pytest.raises(TooFewSurvivors):
        run(tmp_path, study(), toy_app(exchange=OffsetSite()), [Fault(s, "sft", 1) for s in ("ash", "birch")], exchange=exchange)
    assert exchange.attempts == [0, 0, 1, 2]
    again = OffsetExchange()
    _, records, vector = run(tmp_path, study(), toy_app(exchange=OffsetSite()), exchange=again)
    assert again.attempts == [3, 0], "attempts 0 to 2 of round 1 were shown to sites before the crash"
    assert [record.attempt for record in records] == [0, 3, 0]
    np.testing.assert_array_equal(vector, run(tmp_path / "plain", study())[2])


def test_a_damaged_checkpoint_says_so(tmp_path: Path) -> None:
    plan = federation(study(), SITES)
    path = tmp_path / "state.safetensors"
    run(tmp_path, study())
    state = load_state(path, SPEC, plan.binding)
    assert state is not None
    save_state(path, state)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Exception, match="cannot be read"):
        load_state(path, SPEC, plan.binding)
