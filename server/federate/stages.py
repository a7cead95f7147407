"""One federated stage from hello to registry: enrol, deal the cohort, run the rounds, sign the result.

A stage whose line has a version is done and is not run again; one that was killed goes on from its last committed round.
"""

from collections.abc import Iterable
from dataclasses import asdict

from flwr.serverapp import Grid

from common.adapters import Adapter, AdapterSpec
from common.config import Aggregation, Stage, StudyConfig
from common.errors import ConfigError, ModelUnavailable, ProtocolError, TooFewSurvivors
from common.journal import JSON
from common.models import SharedBase
from common.privacy.mechanism import Unit
from common.privacy.schedule import noise_multiplier
from common.progress import Progress, Silent
from common.protocol import HELLO_MESSAGE, Hello, HelloRequest, Refusal
from common.secure.context import line_name
from common.secure.exchanges import coordinator_exchange
from server.federate.checkpoint import RoundRecord
from server.federate.cohort import Enrolment
from server.federate.orders import obey, on_waiting
from server.federate.post import Clock, Post, SystemClock
from server.federate.robust import KeepingExchange
from server.federate.rounds import Federation, federate, total_bytes
from server.federate.scoring import Score
from server.registry import Version
from server.run_folder import RunFolder
from server.watcher import OnState

PUBLIC_REWARD = "reward-public"
"""The line of the preference model pretrained on public pairs; reward members start from its newest version if there is one."""

HELLO_SECONDS = 120.0
"""How long a known site may take to say hello when a stage begins; the first enrolment waits `round_timeout_seconds`."""


def run_stage(
    run: RunFolder,
    stage: Stage,
    member: int | None,
    grid: Grid,
    base: SharedBase,
    *,
    progress: Progress | None = None,
    clock: Clock | None = None,
    on_state: OnState | None = None,
    score: Score | None = None,
) -> Version:
    """Train one line of the study and return its signed version. Returns at once when the line is done.

    Raises TooFewSurvivors, ConfigError, ProtocolError, ModelUnavailable, StorageError; after each of them the stage can be resumed.
    """
    line, clock = line_name(stage, member), clock or SystemClock()
    done = run.registry.find(line)
    if done is not None:
        return done
    initial, parents = starting_point(run, stage, base)
    enrolment, addresses = gather(run, grid, clock)
    sigma = noise_multiplier(run.study, stage) if run.study.private else 0.0
    exchange = KeepingExchange() if run.study.secure.aggregation is not Aggregation.MEAN else coordinator_exchange(run.study, run.roster())
    cohort = enrolment.cohort(run.study, stage, member)
    scorer = _scorer(run.study, stage, score)
    federation = Federation(run.study, stage, member, cohort, initial, base.digest, sigma, exchange, scorer)
    state = federate(
        federation,
        Post(grid, addresses, clock, on_waiting(run)),
        run.checkpoint(line),
        progress=progress or Silent(),
        on_round=lambda record: _after_round(run, record),
        on_state=on_state,
    )
    figures: dict[str, JSON] = {
        "study_digest": run.study.digest,
        "base": base.name,
        "base_digest": base.digest,
        "adapter_digest": state.adapter.digest,
        "start_digest": initial.digest,
        "exchange": federation.exchange.name,
        "aggregation": run.study.secure.aggregation.value,
        "grid": type(grid).__name__,
        "noise_multiplier": sigma,
        "rounds": len(state.records),
        "sites": list(federation.cohort.sites),
        "fewest_survivors": min(len(record.survivors) for record in state.records),
        **total_bytes(state.records),
    }
    version = run.registry.put(line, state.adapter.save, parents=parents, figures=figures)
    run.checkpoint(line).unlink(missing_ok=True)
    return version


def _scorer(study: StudyConfig, stage: Stage, score: Score | None) -> Score | None:
    """What groups are compared by. Raises ConfigError when the study wants them compared and nobody brought public examples."""
    if not study.secure.drop_groups or stage is not Stage.SFT:
        return None
    if score is None:
        raise ConfigError(
            "`secure.drop_groups` compares groups on public examples, and this run has none; only `simulate` brings them, so set it to false"
        )
    return score


def starting_point(run: RunFolder, stage: Stage, base: SharedBase) -> tuple[Adapter, list[Version]]:
    """The adapter of round 0 and the versions it comes from: the public start, or the public preference model for a reward member."""
    spec = stage_spec(run.study, stage, base)
    if stage is Stage.SFT:
        return spec.initial(), []
    parents = [version for version in (run.registry.find(Stage.SFT.value), run.registry.find(PUBLIC_REWARD)) if version is not None]
    if not parents or parents[-1].line != PUBLIC_REWARD:
        return spec.initial(), parents
    adapter = Adapter.load(parents[-1].folder)
    if adapter.spec != spec:
        raise ModelUnavailable(
            f"{parents[-1].folder}: the public preference model has other tensors than `reward.adapter` describes; train it again with this study"
        )
    return adapter, parents


def stage_spec(study: StudyConfig, stage: Stage, base: SharedBase) -> AdapterSpec:
    return base.spec(study.stage(stage).adapter, head=stage is Stage.REWARD)


def gather(run: RunFolder, grid: Grid, clock: Clock) -> tuple[Enrolment, dict[str, int]]:
    """Find out which node is which site. The first time, all sites of the study must be there, and they are pinned.

    Returns the enrolment and the node of each site that answered. Raises TooFewSurvivors or ConfigError with the problems of the others.
    """
    pinned, study = run.enrolment(), run.study
    expected = len(pinned.declared) if pinned else study.simulation.hospitals
    patience = HELLO_SECONDS if pinned else study.sft.round_timeout_seconds
    units = tuple(sorted({study.unit(stage) for stage in Stage}))
    deadline = clock.now() + patience
    hellos: dict[int, Hello] = {}
    problems: dict[int, str] = {}
    while True:
        _greet(grid, clock, units, [node for node in grid.get_node_ids() if node not in hellos], hellos, problems, deadline)
        left = deadline - clock.now()
        if len(hellos) >= expected or left <= 0:
            break
        clock.sleep(min(1.0, left))
    if pinned is None:
        pinned = _enrol(run, list(hellos.values()), expected, problems)
    addresses: dict[str, int] = {}
    for node, hello in hellos.items():
        pinned.check(hello)
        if hello.site in addresses:
            raise ProtocolError(f"two nodes call themselves `{hello.site}`; one of them is a copy, stop it and resume")
        addresses[hello.site] = node
    return pinned, addresses


def _enrol(run: RunFolder, hellos: list[Hello], expected: int, problems: dict[int, str]) -> Enrolment:
    if len(hellos) < expected:
        refused = f"; {len(problems)} nodes refused: {', '.join(sorted(set(problems.values())))}" if problems else ""
        raise TooFewSurvivors(
            f"{len(hellos)} of {expected} sites said hello before the study began{refused}; connect the others and resume"
        )
    enrolment = Enrolment.of(hellos, run.study)
    for stage in Stage:
        for member in range(run.study.reward.members) if stage is Stage.REWARD else (None,):
            enrolment.cohort(run.study, stage, member)  # refuses now what would fail in a later stage
    run.enrol(enrolment)
    return enrolment


def _greet(
    grid: Grid, clock: Clock, units: tuple[Unit, ...], nodes: Iterable[int], hellos: dict[int, Hello], problems: dict[int, str], deadline: float
) -> None:  # fmt: skip
    """Ask `nodes` who they are; answers go to `hellos`, codes of refusals to `problems`."""
    names = {f"node-{node}": node for node in nodes}
    if not names:
        return
    requests = {name: HelloRequest(units).to_record() for name in names}
    timeout = max(1.0, deadline - clock.now())
    for answer in Post(grid, names, clock).ask(requests, message_type=HELLO_MESSAGE, group="hello", timeout_seconds=timeout):
        node = names[answer.site]
        if answer.record is None:
            problems[node] = answer.problem or "unreachable"
            continue
        try:
            refusal = Refusal.of(answer.record)
            if refusal is not None:
                problems[node] = refusal.code
                continue
            hellos[node] = Hello.from_record(answer.record)
            problems.pop(node, None)
        except ProtocolError as error:
            problems[node] = error.code


def _after_round(run: RunFolder, record: RoundRecord) -> None:
    """The round is committed: write its figures down, then do what the desk asked for meanwhile."""
    figures = asdict(record)
    line, number = figures.pop("line"), figures.pop("round")
    figures["survivors"] = len(record.survivors)
    run.metrics.record(line, number, figures)
    obey(run)


def require_stage(study: StudyConfig, stage: Stage, member: int | None) -> None:
    """Raises ConfigError when the study has no such reward member."""
    if stage is Stage.REWARD and (member is None or member >= study.reward.members):
        raise ConfigError(f"the study trains {study.reward.members} reward members, numbered from 0; there is no member {member}")
