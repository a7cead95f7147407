"""The tests of a page need passwords, not costly ones: Argon2 with the least memory and time, so that a sign-in takes a millisecond."""

import argon2
import pytest

from client.feedback import people


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "_HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
