"""What `doctor` looks at before a site joins: keys, roster, bundle, the coordinator's certificate, and the clock.

Each check says what it saw, or raises an error with the remedy. Those that need the network are made only for a site that has an invitation.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from client.deploy.assets import require_assets
from client.deploy.bundles import approved_bundle
from client.deploy.connection import INVITATION_FILE, Reached, greet, load
from client.hospital.identity import load_key, node_key_file, pinned_roster
from client.hospital.site import Site
from common.errors import ConfigError, RosterRefused

Look = Callable[[Site], str]

MOST_AHEAD_SECONDS, MOST_BEHIND_SECONDS = 3.0, 120.0
"""The coordinator refuses signatures from the future (5 s) and old ones (300 s); this warns before it does."""
ROSTER_WARNING_DAYS, CERTIFICATE_WARNING_DAYS = 14, 7


def looks(folder: Path) -> list[tuple[str, Look]]:
    """The checks that apply to this site, by name, in the order in which one would mend them."""
    found: list[tuple[str, Look]] = [("keys", _keys), ("budget", _budget)]
    if not (folder / INVITATION_FILE).exists():
        return found
    reached = cache(lambda: greet(load(folder)))  # one greeting serves two checks
    return [*found, ("roster", _roster), ("bundle", _bundle), ("TLS", partial(_certificate, reached)), ("clock", partial(_clock, reached))]


def _keys(site: Site) -> str:
    node_key_file(site.folder)
    return f"both can be read, by this user alone; {load_key(site.folder).public.fingerprint}"


def _budget(site: Site) -> str:
    ledger = site.ledger
    if ledger.unprotected:
        raise ConfigError("this site has trained without privacy; its ledger says ε = ∞ and no private study will be admitted")
    left = {unit: ledger.remaining(unit) for unit in ledger.budgets}
    if not any(value > 0 for value in left.values()):
        raise ConfigError("no ε is left for any unit; `wardround-site budget` shows which studies spent it")
    return ", ".join(f"ε {value:.2f} left for a {unit}" for unit, value in left.items())


def _roster(site: Site, *, now: datetime | None = None) -> str:
    moment = now or datetime.now(UTC)
    roster = pinned_roster(site.folder)
    if roster is None:
        raise RosterRefused("none is pinned; compare the words of the coordinator's roster and run `wardround-site roster pin FILE`")
    roster.require_valid(moment)
    if roster.key_of(site.name) != load_key(site.folder).public:
        raise RosterRefused("the pinned roster gives this site another key than it holds; pin the coordinator's newest roster")
    days = (roster.expires - moment).days
    if days < ROSTER_WARNING_DAYS:
        raise RosterRefused(f"version {roster.version} is valid for {days} days more; ask the coordinator for the next version")
    return f"version {roster.version}, {len(roster.members)} sites, valid for {days} days"


def _bundle(site: Site) -> str:
    bundle = approved_bundle(site.folder)
    if bundle is None:
        raise ConfigError("none is approved; look at the coordinator's bundle with `wardround-site approve BUNDLE`")
    require_assets(bundle)
    return f"{bundle.sha256[:16]} is approved and fits the installed release"


def _certificate(reached: Callable[[], Reached], _site: Site) -> str:
    seen = reached()
    days = (seen.certificate_until - datetime.now(UTC)).days
    if days < CERTIFICATE_WARNING_DAYS:
        raise ConfigError(f"the coordinator's certificate lapses in {days} days; ask the coordinator to restart `up`, which renews it")
    return f"the coordinator's certificate, valid for {days} days"


def _clock(reached: Callable[[], Reached], _site: Site) -> str:
    return judge_clock(reached().clock_ahead_seconds)


def judge_clock(coordinator_ahead_seconds: float) -> str:
    """Raises ConfigError when this machine's clock is further off than the coordinator's authentication takes."""
    ours = -coordinator_ahead_seconds
    if not -MOST_BEHIND_SECONDS <= ours <= MOST_AHEAD_SECONDS:
        raise ConfigError(
            f"this machine's clock is {abs(ours):.0f} s {'ahead of' if ours > 0 else 'behind'} the coordinator's; at most "
            f"{MOST_AHEAD_SECONDS:.0f} s ahead and {MOST_BEHIND_SECONDS:.0f} s behind are taken: set both by NTP"
        )
    return f"{abs(ours):.0f} s from the coordinator's"
