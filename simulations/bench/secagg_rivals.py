"""The rounds that `secagg.py` compares: ours through the product's own loop and grid, and Flower's legacy workflow on the same grid."""

import hashlib
import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters
from flwr.common.serde import recorddict_to_proto
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow

from common.adapters import AdapterSpec, TensorSpec
from common.config import AdapterConfig, Stage, StudyConfig
from common.protocol import RoundReply, RoundRequest, travelling
from common.secure.context import RoundContext
from common.secure.exchange import ExchangeFactory, Phase, PlainExchange, PlainSite, SiteExchange
from common.secure.fixedpoint import Integers, grid_step, to_words
from common.secure.identity import SigningKey
from common.secure.masked.bindings import threshold
from common.secure.masked.coordinator import MaskedExchange
from common.secure.masked.site import Credentials, MaskedSite
from common.secure.roster import Roster
from server.federate.attempt import Group, Tally, run_attempt, total
from server.federate.post import Post, SystemClock
from simulations.machine.grid import LocalGrid, identity

RANK = 8


class _CountingGrid(LocalGrid):
    """Counts what Flower's own messages hold; ours are counted by the loop."""

    bytes_up = bytes_down = 0

    def push_messages(self, messages: Any) -> Any:
        messages = list(messages)
        self.bytes_down += sum(len(recorddict_to_proto(message.content).SerializeToString()) for message in messages)
        return super().push_messages(messages)


class OurRound:
    """One round of the exchange called `name`. `error` is the largest of a coordinate of the last sum, in grid steps.

    drawn   the sites' updates, by name, when they are not to be drawn while the clock runs
    """

    def __init__(self, name: str, sites: int, words: int, folder: Path, drawn: Mapping[str, Integers] | None = None) -> None:
        self._drawn = drawn or {}
        self._sites = site_names(sites)
        self._words = words // RANK * RANK
        self._folder, self._name, self._attempt = folder, name, 0
        self.bytes_up = self.bytes_down = 0
        self._study = StudyConfig.model_validate(
            {
                "study_id": "bench",
                "simulation": {"hospitals": max(sites, 6)},
                "secure": {"exchange": name},
                "privacy": {"noise_multiplier": 1.0},
            }
        )
        shapes = (
            TensorSpec("base_model.model.q_proj.lora_A.weight", (RANK, 4)),
            TensorSpec("base_model.model.q_proj.lora_B.weight", (self._words // RANK, RANK)),
        )
        spec = AdapterSpec("bench", AdapterConfig(rank=RANK), shapes, (0,), head=False)
        self._adapter = spec.initial().with_vector(np.random.default_rng(0).standard_normal(self._words, dtype=np.float32), 0)
        self._keys = {site: SigningKey.generate() for site in self._sites}
        coordinator, now = SigningKey.generate(), datetime.now(UTC)
        self._roster = Roster.found("bench", coordinator.public, {s: k.public for s, k in self._keys.items()}, issued=now, days=1)
        for site in self._sites:
            (folder / site).mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        self._attempt += 1
        exchange: ExchangeFactory = MaskedExchange(self._roster) if self._name == "masked" else PlainExchange()
        context = RoundContext(
            self._study.digest, Stage.SFT, None, 0, self._attempt, self._sites, self._adapter.digest, "b" * 64, self._name,
            self._roster.digest if exchange.roster else None, 1.0,
        )  # fmt: skip
        grid = LocalGrid(self._app(), [self._folder / site for site in self._sites])
        group = Group(self._sites, context, exchange.open(context, self._words, 3))
        tensors, tally = travelling(self._adapter), Tally()

        def request(about: RoundContext, phase: Phase, site: str) -> RoundRequest:
            return RoundRequest(
                about, phase.name, phase.requests[site], self._study, 9.0, grid_step(1.0), tensors if phase.trains else None
            )

        with identity():
            post = Post(grid, dict(zip(self._sites, grid.get_node_ids(), strict=True)), SystemClock())
            run_attempt([group], post, tally, request=request, words=self._words, timeout_seconds=600.0, before_opening=lambda _: None)
        self.bytes_up, self.bytes_down = tally.bytes_up, tally.bytes_down
        self._summed = total([group]).words

    def error(self) -> float:
        exact = sum(self._update(site).astype(np.int64) for site in self._sites)
        return float(np.abs(self._summed - exact).max())

    def _update(self, site: str) -> Integers:
        return self._drawn[site] if site in self._drawn else update_of(site, self._words)

    def _app(self) -> ClientApp:
        app = ClientApp()

        @app.train("round")
        def one_round(message: Message, context: Context) -> Message:
            folder = Path(str(context.node_config["site-dir"]))
            request, kept = RoundRequest.from_record(message.content), folder / "state"
            sites = len(request.context.sites)
            state, body = self._side(folder.name).reply(
                request.context,
                request.phase,
                request.body,
                kept.read_bytes() if kept.exists() else b"",
                lambda: to_words(self._update(folder.name), sites),
            )
            kept.write_bytes(state)
            return Message(RoundReply(folder.name, request.context.transcript(), request.phase, body).to_record(), reply_to=message)

        return app

    def _side(self, site: str) -> SiteExchange:
        if self._name == "plain":
            return PlainSite()
        return MaskedSite(Credentials(site, self._keys[site], self._roster, datetime.now(UTC)), secrets.token_bytes)


class FlowerRound:
    """One round of Flower's SecAgg+ with every site a neighbour of every other. `error` is the largest of the last mean."""

    def __init__(self, sites: int, words: int, drawn: Mapping[str, Integers]) -> None:
        self._updates = {site: update.astype(np.float32) / np.float32(2**16) for site, update in drawn.items()}
        logging.getLogger("flwr").setLevel(logging.ERROR)
        self._sites, self._words = sites, words // RANK * RANK
        self.bytes_up = self.bytes_down = 0

    def run(self) -> None:
        names = site_names(self._sites)
        grid = _CountingGrid(self._app(), [Path(name) for name in names], on_leaving=self._left)
        self.bytes_up = 0
        manager = SimpleClientManager()
        initial = [np.random.default_rng(0).standard_normal(self._words, dtype=np.float32)]
        strategy = FedAvg(
            fraction_evaluate=0.0,
            min_fit_clients=self._sites,
            min_available_clients=self._sites,
            initial_parameters=ndarrays_to_parameters(initial),
        )
        with identity():
            for node in grid.get_node_ids():
                manager.register(GridClientProxy(node, grid, 1))
            context = LegacyContext(
                Context(1, 1, {}, RecordDict(), {}), config=ServerConfig(num_rounds=1), strategy=strategy, client_manager=manager
            )
            context.state.array_records["parameters"] = ArrayRecord(initial)
            context.state.config_records["config"] = ConfigRecord({"current_round": 1})
            SecAggPlusWorkflow(self._sites, threshold(self._sites) if self._sites > 3 else 2, max_weight=1.0, clipping_range=8.0)(
                grid, context
            )
        self.bytes_down = grid.bytes_down
        self._mean = context.state.array_records["parameters"].to_numpy_ndarrays()[0]

    def error(self) -> float:
        return float(np.abs(self._mean - np.mean(list(self._updates.values()), axis=0)).max())

    def _left(self, site: str, group: str, content: bytes) -> None:  # noqa: ARG002  # told of every answer as it leaves
        self.bytes_up += len(content)

    def _app(self) -> ClientApp:
        updates = self._updates

        class Site(NumPyClient):
            def __init__(self, name: str) -> None:
                self._name = name

            def fit(self, parameters: Any, config: Any) -> Any:  # noqa: ARG002  # known numbers, nothing is trained
                return [updates[self._name]], 1, {}

        return ClientApp(client_fn=lambda context: Site(Path(str(context.node_config["site-dir"])).name).to_client(), mods=[secaggplus_mod])


def site_names(sites: int) -> tuple[str, ...]:
    return tuple(f"site-{i:03d}" for i in range(sites))


def update_of(site: str, words: int) -> Integers:
    """An update of a site, the same whenever it is drawn."""
    seed = int.from_bytes(hashlib.sha256(site.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).integers(-100_000, 100_000, words, dtype=np.int32)
