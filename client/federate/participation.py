"""This hospital's part in a federated round: check what is asked, admit it or refuse it, train, and answer through the exchange.

Everything that can be refused from the request alone is refused before any data is read. What the hospital remembers of a study
(its digest, the reward member it belongs to, the last round of each line) lies sealed in the vault.

Protects against: a study that changes its figures under the same name, a request for a round that is over, another model for the
same round, a second reward member (a patient would meet the stage twice), a weight, grid or cohort size that is not the public one.
Does not protect against: a coordinator that keeps the rules and sums with sites of its own making; the roster is for that.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from client.federate.credentials import credentials, smallest_sum
from client.federate.egress import Now, utc_now
from client.hospital.policy import Request
from client.hospital.site import Site
from common.adapters import Adapter
from common.config import Stage, StudyConfig
from common.errors import ProtocolError
from common.protocol import Hello, HelloRequest, RoundReply, RoundRequest
from common.secure.context import RoundContext
from common.secure.exchange import require_fit
from common.secure.exchanges import site_exchange
from common.secure.fixedpoint import Integers, Words, clamp, grid_step, to_words
from common.secure.groups import sum_sizes

if TYPE_CHECKING:
    from common.models import SharedBase


class Update(Protocol):
    """A private update as the training gives it out: noised integers on the grid γ, and the L it was made for."""

    @property
    def words(self) -> Integers: ...
    @property
    def grid(self) -> float: ...
    @property
    def expected_units(self) -> float: ...


Train = Callable[[RoundRequest, Adapter, Site, "SharedBase"], Update]
LoadBase = Callable[[StudyConfig], "SharedBase"]


def say_hello(site: Site, request: HelloRequest) -> Hello:
    """The site's name and N_s of the units that were asked for. Raises ConfigError when the hospital never declared one of them."""
    return Hello(site.name, {unit: site.declared_units(unit) for unit in request.units})


def take_part(site: Site, request: RoundRequest, *, load_base: LoadBase, train: Train, now: Now = utc_now) -> RoundReply:
    """Answer one phase of a round. Raises PolicyRefused, ProtocolError, ConfigError or what `train` raises; then nothing was answered."""
    context, study = request.context, request.study
    if context.exchange != study.secure.exchange:
        raise ProtocolError(f"the round travels by the exchange `{context.exchange}` and the study says `{study.secure.exchange}`")
    exchange = site_exchange(context.exchange, lambda: credentials(site, now=now(), at_least=smallest_sum(study, context.stage)))
    require_fit(exchange.name, exchange.hides_updates, study.privacy.placement)
    _require_public_figures(site, request)
    site.policy.admit(Request.of(study, context.stage, sites=len(context.sites)))
    memory = _Memory.of(site, study).after(context, study.study_id)

    def words() -> Words:
        base = load_base(study)
        if base.digest != context.base_digest:
            raise ProtocolError(f"base model `{base.name}` has other weights here than at the coordinator; compare the two folders")
        spec = base.spec(study.stage(context.stage).adapter, head=context.stage is Stage.REWARD)
        adapter = request.adapter(spec)
        # Only now: a coordinator that first sent a wrong model by mistake may send the right one for the same round.
        memory.keep(site, study)
        update = train(request, adapter, site, base)
        if (update.grid, update.expected_units) != (request.grid, request.expected_units):
            raise ProtocolError("the update was made for another grid or weight than the round asks for")
        sites = len(context.sites)
        return to_words(clamp(update.words, sites), sites)

    # One slot a line: what an attempt left behind is gone with the next, and what was opened before is known to it.
    key = f"exchange/{study.study_id}/{context.line}"
    before = site.vault.get(key) or b""
    state, body = exchange.reply(context, request.phase, request.body, before, words)
    memory.keep(site, study)
    if state:
        site.vault.put(key, state)
    elif before:
        site.vault.erase(key)
    return RoundReply(site.name, context.transcript(), request.phase, body)


def _require_public_figures(site: Site, request: RoundRequest) -> None:
    context, study = request.context, request.study
    if site.name not in context.sites:
        raise ProtocolError(f"site `{site.name}` is not in the cohort of this round")
    sizes = sum_sizes(study, context.stage)
    if len(context.sites) not in sizes:
        raise ProtocolError(
            f"{len(context.sites)} sites would be summed, and the study describes sums of {' or '.join(map(str, sorted(sizes)))}"
        )
    if context.round >= study.stage(context.stage).rounds:
        raise ProtocolError(f"round {context.round} of `{context.line}` is beyond the study's {study.stage(context.stage).rounds}")
    if context.member is not None and context.member >= study.reward.members:
        raise ProtocolError(f"reward member {context.member} does not exist; the study trains {study.reward.members}")
    if request.grid != grid_step(study.privacy.clip_norm):
        raise ProtocolError(f"the grid {request.grid:g} is not the public one of clip norm {study.privacy.clip_norm:g}")
    expected = study.privacy.sampling_rate * site.declared_units(study.unit(context.stage))
    if request.expected_units != expected:
        raise ProtocolError(
            f"the round counts {request.expected_units:g} units for this site and it declared {expected:g} (sampling rate times declared units)"
        )


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the site keeps of one study. `last` holds round, attempt and transcript of the newest request, by line."""

    digest: str
    member: int | None = None
    last: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, site: Site, study: StudyConfig) -> "_Memory":
        stored = site.vault.get(f"study/{study.study_id}")
        if stored is None:
            return cls(study.digest)
        tree = json.loads(stored)
        return cls(tree["digest"], tree["member"], {line: (int(r), int(a), str(t)) for line, (r, a, t) in tree["last"].items()})

    def keep(self, site: Site, study: StudyConfig) -> None:
        """Write the memory down, unless it stands there already: a write waits for the disk."""
        name, data = f"study/{study.study_id}", json.dumps({"digest": self.digest, "member": self.member, "last": self.last}).encode()
        if site.vault.get(name) != data:
            site.vault.put(name, data)

    def after(self, context: RoundContext, study_id: str) -> "_Memory":
        """The memory with this request in it. Raises ProtocolError for what went back or changed."""
        if self.digest != context.study_digest:
            raise ProtocolError(f"study `{study_id}` is known here with other figures; a changed study needs another study_id")
        if context.member is not None and self.member not in (None, context.member):
            raise ProtocolError(
                f"this site trains reward member {self.member} of study `{study_id}`, and no other: its patients meet the stage once"
            )
        member = self.member if context.member is None else context.member
        transcript = context.transcript().hex()
        round_number, attempt, before = self.last.get(context.line, (-1, 0, ""))
        if (context.round, context.attempt) < (round_number, attempt):
            raise ProtocolError(
                f"round {context.round}, attempt {context.attempt} of `{context.line}` is over here; "
                f"round {round_number}, attempt {attempt} was asked since"
            )
        if (context.round, context.attempt) == (round_number, attempt) and transcript != before:
            raise ProtocolError(f"round {context.round} of `{context.line}` was asked before with another model, cohort or base")
        return _Memory(self.digest, member, {**self.last, context.line: (context.round, context.attempt, transcript)})
