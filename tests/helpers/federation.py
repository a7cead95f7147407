"""A federation without models: real grid, real messages, real loop, and sites that answer with known integers instead of training."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from common.adapters import AdapterSpec, TensorSpec
from common.config import AdapterConfig, Factors, Stage, StudyConfig
from common.protocol import Hello, HelloRequest, RoundReply, RoundRequest
from common.secure.exchange import SiteExchange
from common.secure.exchanges import site_exchange
from common.secure.fixedpoint import Integers, to_words
from common.secure.masked.site import Credentials
from common.secure.roster import Roster
from server.federate.cohort import Cohort
from server.federate.post import Post
from server.federate.rounds import Federation
from simulations.machine.grid import Fault, LocalGrid
from tests.helpers.masked import NOW, key_of, roster_of

BASE_DIGEST = "b" * 64
SPEC = AdapterSpec(
    base="toy",
    config=AdapterConfig(rank=2, factors=Factors.FFA),
    tensors=(
        TensorSpec("base_model.model.layers.0.q_proj.lora_A.weight", (2, 5)),
        TensorSpec("base_model.model.layers.0.q_proj.lora_B.weight", (7, 2)),
        TensorSpec("base_model.model.layers.1.q_proj.lora_A.weight", (2, 5)),
        TensorSpec("base_model.model.layers.1.q_proj.lora_B.weight", (7, 2)),
    ),
    layers=(0, 1),
    head=False,
)


class FakeClock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def study(*, hospitals: int = 4, rounds: int = 3, **sft: object) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study_id": "toy",
            "secure": {"exchange": "plain"},
            "privacy": {"noise_multiplier": 1.0, "sampling_rate": 0.1},
            "sft": {"rounds": rounds, "server_learning_rate": 0.05, **sft},
            "reward": {"members": 1, "rounds": 2},
            "ppo": {"variance_penalty": 0.0},
            "simulation": {"hospitals": hospitals},
        }
    )


def site_folders(root: Path, names: Iterable[str]) -> list[Path]:
    folders = [root / name for name in names]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def known_words(site: str, round_number: int, size: int) -> Integers:
    """Integers that any test can compute again."""
    seed = int.from_bytes(site.encode(), "big") * 1000 + round_number
    return np.random.default_rng(seed).integers(-100_000, 100_000, size, dtype=np.int32)


Words = Callable[[str, int, int], Integers]


def toy_roster(sites: Sequence[str]) -> Roster:
    return roster_of(tuple(sorted(sites)))


def toy_credentials(site: str, sites: Sequence[str]) -> Credentials:
    return Credentials(site, key_of(site), toy_roster(sites), NOW)


def toy_app(
    words: Words = known_words,
    *,
    seen: list[RoundRequest] | None = None,
    exchange: SiteExchange | None = None,
    declared: Callable[[str], int] = lambda site: 90,
    all_sites: Sequence[str] = (),
    spec: Callable[[RoundRequest], AdapterSpec] = lambda request: SPEC,
) -> ClientApp:
    """A site that checks the adapter, takes part in the exchange and answers with `words(site, round, size)`."""
    app = ClientApp()
    kept: dict[str, bytes] = {}

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        units = HelloRequest.from_record(message.content).units
        name = Path(str(context.node_config["site-dir"])).name
        return Message(Hello(name, dict.fromkeys(units, declared(name))).to_record(), reply_to=message)

    @app.train("round")
    def one_round(message: Message, context: Context) -> Message:
        name = Path(str(context.node_config["site-dir"])).name
        request = RoundRequest.from_record(message.content)
        if seen is not None:
            seen.append(request)
        number, sites, size = request.context.round, len(request.context.sites), spec(request).size(request.context.round)
        if request.tensors is not None:
            request.adapter(spec(request))
        side = exchange or site_exchange(request.context.exchange, lambda: toy_credentials(name, tuple(all_sites or request.context.sites)))
        key = name + request.context.line
        kept[key], body = side.reply(
            request.context,
            request.phase,
            request.body,
            kept.get(key, b""),
            lambda: to_words(words(name, number, size), sites),
        )
        return Message(RoundReply(name, request.context.transcript(), request.phase, body).to_record(), reply_to=message)

    return app


def federation(config: StudyConfig, sites: Sequence[str], **fields: object) -> Federation:
    cohort = Cohort({site: 9.0 + i for i, site in enumerate(sorted(sites))})
    values = {"study": config, "stage": Stage.SFT, "member": None, "cohort": cohort, "initial": SPEC.initial()}
    return Federation(**{**values, "base_digest": BASE_DIGEST, "noise_multiplier": 1.0, **fields})  # type: ignore[arg-type]  # a test's shorthand


def toy_grid(root: Path, sites: Sequence[str], app: ClientApp | None = None, faults: Iterable[Fault] = ()) -> LocalGrid:
    return LocalGrid(app or toy_app(), site_folders(root, sites), faults=faults)


def post(grid: LocalGrid, sites: Sequence[str], clock: FakeClock | None = None) -> Post:
    return Post(grid, dict(zip(sites, grid.get_node_ids(), strict=True)), clock or FakeClock())
