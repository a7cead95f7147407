"""Passwords, waiting, sessions."""

from datetime import UTC, datetime, timedelta

import argon2
import pytest

from client.feedback import people
from client.feedback.acts import Role
from client.feedback.people import Sessions, Throttle, fits, new_person, pack_person, unpack_person
from client.feedback.settings import LabelSettings
from common.errors import PolicyRefused
from common.events import Handle

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = "quiet harbour lantern"


def test_a_person_comes_out_of_the_vault_as_they_went_in() -> None:
    person = new_person("  Dr  Ann  Ower ", Role.ANNOTATOR, GOOD)
    assert person.name == "Dr Ann Ower"
    assert unpack_person(pack_person(person)) == person
    assert GOOD not in repr(person) + person.password
    assert fits(person, GOOD)
    assert not fits(person, GOOD + "x")
    assert not fits(None, GOOD)


@pytest.mark.parametrize(
    ("name", "password"), [("Ann", "short"), ("Ann", "a" * 20), ("a long enough name", "A long enough name"), ("", GOOD)]
)
def test_names_and_passwords_that_will_not_do(name: str, password: str) -> None:
    with pytest.raises(PolicyRefused):
        new_person(name, Role.ANNOTATOR, password)


def test_the_real_hash_is_argon2id_with_the_memory_of_rfc_9106(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "_HASHER", argon2.PasswordHasher())
    assert people.hashed(GOOD, "Ann").startswith("$argon2id$v=19$m=65536,t=3,")


def test_waits_double_and_end() -> None:
    throttle, waits = Throttle(), []
    for _ in range(12):
        throttle.failed("Ann", NOW)
        waits.append(throttle.wait_seconds(" ann", NOW))
    assert waits == [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256]
    assert throttle.wait_seconds("Ben", NOW) == 0
    assert throttle.wait_seconds("Ann", NOW + timedelta(seconds=300)) == 0
    throttle.succeeded("ANN")
    assert throttle.wait_seconds("Ann", NOW) == 0


def test_a_list_of_names_is_no_way_around() -> None:
    throttle = Throttle()
    for n in range(people.FAILURES_A_MINUTE):
        throttle.failed(f"name {n}", NOW)
    assert throttle.wait_seconds("another", NOW) == 60
    assert throttle.wait_seconds("another", NOW + timedelta(seconds=61)) == 0


def test_sessions() -> None:
    sessions, ann = Sessions(LabelSettings(idle_minutes=10, session_hours=1)), Handle.draw()
    cookie = sessions.begin(ann, "hash", NOW)
    assert sessions.begin(ann, "hash", NOW) != cookie
    found = sessions.find(cookie, NOW + timedelta(minutes=9))
    assert found is not None
    assert cookie not in repr(sessions.__dict__)  # what lies in memory does not open the page
    assert sessions.find(cookie, NOW + timedelta(minutes=18)) is not None
    assert sessions.find(cookie, NOW + timedelta(minutes=29)) is None
    longest = sessions.begin(ann, "hash", NOW)
    for minute in range(5, 61, 5):
        assert sessions.find(longest, NOW + timedelta(minutes=minute)) is not None
    assert sessions.find(longest, NOW + timedelta(minutes=61)) is None
    third = sessions.begin(ann, "hash", NOW)
    sessions.end_all(ann)
    assert sessions.find(third, NOW) is None
    assert sessions.find(None, NOW) is None
