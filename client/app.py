"""The hospital's Flower app: unpack a message, let `participation` decide and work, write down what leaves, pack the answer.

Protects against: text of a hospital in anything that is sent. Flower puts the text of an exception into its error message, so no
exception passes this door: whatever happens inside leaves as the code of an error class, and its reason stays in the audit log.
Does not protect against: what the time an answer takes may tell.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.deploy.assets import require_own_assets
from client.federate.egress import record_egress, record_refusal
from client.federate.participation import say_hello, take_part
from client.hospital.site import Site
from common.adapters import Adapter
from common.config import StudyConfig
from common.errors import ConfigError, WardroundError
from common.protocol import HelloRequest, Refusal, RoundRequest, schema_of, size_of

if TYPE_CHECKING:  # PyTorch takes seconds to load, and most messages of a round need none of it; under Flower each is a process of its own
    from client.train.round_work import NoisyUpdate
    from common.models import SharedBase

app = ClientApp()

Handler = Callable[[Site, RecordDict], RecordDict]


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    return _answer(message, context, lambda site, record: say_hello(site, HelloRequest.from_record(record)).to_record())


@app.train("round")
def federated_round(message: Message, context: Context) -> Message:
    def handle(site: Site, record: RecordDict) -> RecordDict:
        return take_part(site, RoundRequest.from_record(record), load_base=_base, train=_train).to_record()

    return _answer(message, context, handle)


def site_folder(context: Context) -> Path:
    """The site of this node: `site-dir` of the node's own configuration; under Flower's simulation, folder number `partition-id` of `sites-dir`.

    Raises ConfigError when neither names a folder, or when there are more or fewer folders than simulated nodes.
    """
    own = context.node_config.get("site-dir")
    if own:
        return Path(str(own))
    shared, number = context.run_config.get("sites-dir"), context.node_config.get("partition-id")
    if not shared or not isinstance(number, int):
        raise ConfigError("this node does not know its site; start it with --node-config 'site-dir=\"/path/of/the/site\"'")
    folders = sorted(folder for folder in Path(str(shared)).iterdir() if folder.is_dir())
    if context.node_config.get("num-partitions") != len(folders):
        raise ConfigError(f"{shared} holds {len(folders)} sites and Flower simulates {context.node_config.get('num-partitions')} nodes")
    return folders[number]


def _answer(message: Message, context: Context, handle: Handler) -> Message:
    """The reply to `message`: what `handle` returns, or a refusal. Nothing raised in here gets out."""
    about = (message.metadata.group_id or message.metadata.message_type)[:80]
    try:
        with Site.open(site_folder(context)) as site:
            record = _guarded(site, message.content, handle, about)
            record_egress(site.audit, schema_of(record), size_of(record), about)
    except WardroundError as error:  # no site, no vault, or no room for the audit row: nothing but this code leaves
        record = Refusal(error.code).to_record()
    except Exception:  # the text of an unknown error may quote a note; the audit log has its kind
        record = Refusal(WardroundError.code).to_record()
    return Message(record, reply_to=message)


def _guarded(site: Site, content: RecordDict, handle: Handler, about: str) -> RecordDict:
    try:
        require_own_assets()
        return handle(site, content)
    except Exception as error:
        with contextlib.suppress(WardroundError):  # a full disk may be the very reason
            record_refusal(site.audit, error, about)
        return Refusal(error.code if isinstance(error, WardroundError) else WardroundError.code).to_record()


def _base(study: StudyConfig) -> "SharedBase":
    from common.bases import shared_base

    return shared_base(study.model.base, study.model.dtype)


def _train(request: RoundRequest, adapter: Adapter, site: Site, base: "SharedBase") -> "NoisyUpdate":
    from client.train.noise import SeededNoise, SystemNoise
    from client.train.round_work import RoundWork
    from client.train.update import run_round

    context = request.context
    work = RoundWork(
        study=request.study,
        stage=context.stage,
        member=context.member,
        round=context.round,
        attempt=context.attempt,
        adapter=adapter,
        noise_multiplier=request.noise_multiplier,
        expected_units=request.expected_units,
        sites=len(context.sites),
    )
    # A site that was made for a simulation says so on its own disk; no message can turn a real one into it.
    noise = SeededNoise(request.study.seed, site.name) if site.vault.simulated else SystemNoise()
    return run_round(work, site, base, noise=noise)
