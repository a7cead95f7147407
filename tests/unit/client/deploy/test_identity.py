"""A site's keys and the roster it pinned: private files, and no way back to an older or foreign roster."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.hospital.identity import load_key, make_card, make_keys, node_key_file, pin_roster, pinned_roster, review_roster, rotate
from common.errors import RosterRefused, StorageError
from common.secure.identity import SigningKey
from common.secure.introductions import Card
from common.secure.roster import Roster

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
COORDINATOR = SigningKey.generate()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    make_keys(tmp_path)
    return tmp_path


def roster(site: Path, **others: SigningKey) -> Roster:
    keys = {"ash": load_key(site).public, **{name: key.public for name, key in others.items()}}
    return Roster.found("north", COORDINATOR.public, keys, issued=NOW, days=30)


def test_keys_are_made_once_and_are_for_this_user_alone(site: Path) -> None:
    card = Card.open(make_card(site, "ash"))
    assert card.key == load_key(site).public
    with pytest.raises(StorageError, match="has its keys already"):
        make_keys(site)
    node_key_file(site).chmod(0o640)
    with pytest.raises(StorageError, match="chmod 600"):
        node_key_file(site)


def test_the_first_roster_is_shown_whole_and_the_next_by_what_changes(site: Path) -> None:
    first = roster(site, birch=SigningKey.generate())
    _, lines = review_roster(site, "ash", first.sign(COORDINATOR), now=NOW)
    assert lines[0] == "the first roster of consortium north, version 1"
    assert len(lines) == 3
    pin_roster(site, "ash", first.sign(COORDINATOR), now=NOW)
    second = first.add("cedar", SigningKey.generate().public, issued=NOW)
    _, lines = review_roster(site, "ash", second.sign(COORDINATOR), now=NOW)
    assert [line.split(" with key")[0] for line in lines] == ["cedar joins"]
    pin_roster(site, "ash", second.sign(COORDINATOR), now=NOW)
    assert pinned_roster(site) == second


@pytest.mark.parametrize("case", ["old", "foreign", "expired", "without us", "another key of ours", "not signed"])
def test_a_roster_that_is_refused(site: Path, case: str) -> None:
    first = roster(site, birch=SigningKey.generate())
    second = first.renew(issued=NOW, days=60)
    pin_roster(site, "ash", second.sign(COORDINATOR), now=NOW)
    other = SigningKey.generate()
    data, words = {
        "old": (first.sign(COORDINATOR), "not newer than the pinned version 2"),
        "foreign": (
            Roster.found("south", other.public, {"ash": load_key(site).public}, issued=NOW, days=9).sign(other),
            "another consortium",
        ),
        "expired": (second.renew(issued=NOW - timedelta(days=9), days=8).sign(COORDINATOR), "expired"),
        "without us": (second.revoke("ash", issued=NOW).sign(COORDINATOR), "is not in version"),
        "another key of ours": (second.rotate("ash", other.public, None, issued=NOW).sign(COORDINATOR), "another key than this site holds"),
        "not signed": (second.renew(issued=NOW, days=9).sign(COORDINATOR)[:-3] + b"ff\n", "signature"),
    }[case]
    with pytest.raises(RosterRefused, match=words):
        pin_roster(site, "ash", data, now=NOW)
    assert pinned_roster(site) == second, "the pinned one stands"


def test_rotation_is_vouched_for_by_the_former_key(site: Path) -> None:
    first = roster(site, birch=SigningKey.generate())
    pin_roster(site, "ash", first.sign(COORDINATOR), now=NOW)
    before = node_key_file(site).read_bytes()
    key, voucher = rotate(site, "ash")
    assert voucher is not None
    assert node_key_file(site).read_bytes() != before
    second = first.rotate("ash", key.public, voucher, issued=NOW)
    _, lines = review_roster(site, "ash", second.sign(COORDINATOR), now=NOW)
    assert "vouched for by the pinned one" in lines[0]
    assert "NOT" not in lines[0]
