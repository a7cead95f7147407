"""What the coordinator's desk does before and between studies: found the consortium, admit, rotate and revoke sites.

Every change makes the next version of the roster, signed here; the sites pin it after comparing its words.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from common.errors import RosterRefused, StorageError
from common.secure.identity import SigningKey
from common.secure.introductions import Card, Invitation
from common.secure.roster import Roster, open_roster
from common.storage import held_alone, storage_errors, write_atomic
from server.deploy.certificates import make_authority
from server.deploy.folder import Deployment, Settings
from server.deploy.processes import write_flower_home
from server.deploy.units import write_units

ROSTER_DAYS = 365


def found(path: Path, settings: Settings, *, now: datetime) -> Deployment:
    """A new deployment: keys, certificate authority, an empty roster, the invitation, units. Raises StorageError when one is there."""
    deployment = Deployment.create(path.absolute(), settings)
    key = SigningKey.generate()
    write_atomic(deployment.keys / "coordinator.key", key.to_bytes())
    make_authority(deployment, now=now)
    write_flower_home(deployment)
    roster = Roster.found(settings.consortium, key.public, {}, issued=now, days=ROSTER_DAYS)
    write_atomic(deployment.roster_file, roster.sign(key), mode=0o644)
    invitation = Invitation(settings.consortium, key.public, deployment.address, deployment.ca_certificate.read_text(encoding="ascii"))
    write_atomic(deployment.invitation_file, invitation.sign(key), mode=0o644)
    write_units(deployment)
    return deployment


def admit(deployment: Deployment, data: bytes, *, now: datetime) -> Roster:
    """The next roster with the site of this card. Raises RosterRefused when its name is taken."""
    card = Card.open(data)
    with _alone(deployment):
        roster = current_roster(deployment).add(card.site, card.key, issued=now)
        _keep_card(deployment, card.site, data)
        return _sign(deployment, roster)


def exchange_key(deployment: Deployment, data: bytes, voucher: bytes | None, *, now: datetime) -> Roster:
    """The next roster with the new key of this card. Without the former key's voucher every site is told that nobody vouches for it."""
    card = Card.open(data)
    with _alone(deployment):
        roster = _with(deployment, card.site).rotate(card.site, card.key, voucher, issued=now)
        _keep_card(deployment, card.site, data)
        return _sign(deployment, roster)


def revoke(deployment: Deployment, site: str, *, now: datetime) -> Roster:
    """The next roster without `site`; its key can never come back."""
    with _alone(deployment):
        return _sign(deployment, _with(deployment, site).revoke(site, issued=now))


def renew(deployment: Deployment, days: int, *, now: datetime) -> Roster:
    with _alone(deployment):
        return _sign(deployment, current_roster(deployment).renew(issued=now, days=days))


def current_roster(deployment: Deployment) -> Roster:
    try:
        return open_roster(deployment.roster_file.read_bytes())
    except OSError as error:
        raise StorageError(f"{deployment.roster_file}: cannot be read ({error.strerror}); restore it from its backup") from None


def open_invitation(deployment: Deployment) -> Invitation:
    try:
        return Invitation.open(deployment.invitation_file.read_bytes())
    except OSError as error:
        raise StorageError(f"{deployment.invitation_file}: cannot be read ({error.strerror}); restore it from its backup") from None


def node_keys(deployment: Deployment) -> Mapping[str, bytes]:
    """The node key (PEM) of every site of the roster, from its card. Raises RosterRefused when a card is not the roster's."""
    keys = {}
    for member in current_roster(deployment).members:
        try:
            card = Card.open(_card_file(deployment, member.site).read_bytes())
        except OSError:
            raise StorageError(
                f"{_card_file(deployment, member.site)}: the card of `{member.site}` is missing; ask the site for it again"
            ) from None
        if (card.site, card.key) != (member.site, member.key):
            raise RosterRefused(f"the card of `{member.site}` names another key than the roster; ask the site for it again")
        keys[member.site] = card.node_key.encode()
    return keys


def load_key(deployment: Deployment) -> SigningKey:
    path = deployment.keys / "coordinator.key"
    try:
        return SigningKey.from_bytes(path.read_bytes())
    except OSError as error:
        raise StorageError(f"{path}: the coordinator's key cannot be read ({error.strerror}); restore it from its backup") from None


def _with(deployment: Deployment, site: str) -> Roster:
    """The current roster, which holds `site`. Raises RosterRefused naming those that it holds."""
    roster = current_roster(deployment)
    if site not in roster.sites:
        raise RosterRefused(
            f"no site `{site[:64]}` is in version {roster.version} of the roster, which holds {', '.join(roster.sites) or 'none'}; "
            "a new one is admitted with `roster add CARD`"
        )
    return roster


def _alone(deployment: Deployment) -> AbstractContextManager[None]:
    """Two changes at once would sign two rosters of one version, and every site would take whichever it saw first."""
    return held_alone(deployment.keys / "roster.lock", "another command changes the roster; try again when it is done")


def _sign(deployment: Deployment, roster: Roster) -> Roster:
    write_atomic(deployment.roster_file, roster.sign(load_key(deployment)), mode=0o644)
    return roster


def _keep_card(deployment: Deployment, site: str, data: bytes) -> None:
    with storage_errors(deployment.sites, "create"):
        deployment.sites.mkdir(exist_ok=True)
    write_atomic(_card_file(deployment, site), data, mode=0o644)


def _card_file(deployment: Deployment, site: str) -> Path:
    return deployment.sites / f"{site}.card"
