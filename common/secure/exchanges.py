"""The exchanges that this version speaks, by name: one line each."""

from collections.abc import Callable, Mapping

from common.config import StudyConfig
from common.errors import ConfigError, ProtocolError
from common.secure.exchange import ExchangeFactory, PlainExchange, PlainSite, SiteExchange
from common.secure.masked.coordinator import MaskedExchange
from common.secure.masked.site import Credentials, MaskedSite
from common.secure.roster import Roster

SITE_EXCHANGES: Mapping[str, Callable[[Callable[[], Credentials]], SiteExchange]] = {
    PlainSite.name: lambda credentials: PlainSite(),  # noqa: ARG005  # a plain update is signed by nobody
    MaskedSite.name: lambda credentials: MaskedSite(credentials()),
}


def site_exchange(name: str, credentials: Callable[[], Credentials]) -> SiteExchange:
    """The site's side of the exchange called `name`. Raises ProtocolError for one this site does not speak.

    credentials: read only when the exchange needs them. Raises what they raise: a site without keys or roster cannot take part.
    """
    if name not in SITE_EXCHANGES:
        raise ProtocolError(f"there is no exchange `{name}`; this version speaks {', '.join(SITE_EXCHANGES)}")
    return SITE_EXCHANGES[name](credentials)


def hides_updates(name: str) -> bool:
    """Whether the coordinator learns sums alone through the exchange called `name`."""
    return {PlainSite.name: PlainSite.hides_updates, MaskedSite.name: MaskedSite.hides_updates}[name]


def coordinator_exchange(study: StudyConfig, roster: Roster | None) -> ExchangeFactory:
    """The coordinator's side of the exchange that the study names. Raises ConfigError when it needs a roster and there is none."""
    if study.secure.exchange == PlainExchange.name:
        return PlainExchange()
    if roster is None:
        raise ConfigError(
            'the study\'s exchange is `masked` and the run folder holds no roster.json: sign a roster of the sites first, or set `secure.exchange = "plain"`'
        )
    return MaskedExchange(roster)
