"""The values a ledger is made of, and the rows they become: which step, at what price, in what state."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from common.errors import ConfigError
from common.privacy.mechanism import Mechanism, Placement, Unit


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one unit may lose: ε at δ."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and 0 < self.delta < 1):
            raise ConfigError(f"a budget of ε = {self.epsilon} at δ = {self.delta} protects nobody; ε must be above 0 and δ in (0, 1)")


@dataclass(frozen=True, slots=True)
class Entry:
    """Which step of which study. `stage` is `sft` or `reward-0`, …; `inputs_digest` binds everything that the step's output depends on."""

    study: str
    stage: str
    round: int
    attempt: int
    step: int
    inputs_digest: str


class State(StrEnum):
    RESERVED = "reserved"
    COMMITTED = "committed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Charge:
    """One step as the ledger knows it. Every charge counts, whatever its state: what was reserved may have been released.

    key_digest commits to the step's key: two copies of a site that draw keys of their own write different rows.
    """

    index: int
    entry: Entry
    mechanism: Mechanism
    state: State
    simulated: bool
    at: str
    key_digest: str


def entry_body(entry: Entry) -> dict[str, Any]:
    return {
        "study": entry.study,
        "stage": entry.stage,
        "round": entry.round,
        "attempt": entry.attempt,
        "step": entry.step,
        "inputs": entry.inputs_digest,
    }


def entry_of(body: Mapping[str, Any]) -> Entry:
    return Entry(body["study"], body["stage"], body["round"], body["attempt"], body["step"], body["inputs"])


def key_digest(key: bytes) -> str:
    """A 256-bit random key cannot be found from its SHA-256."""
    return hashlib.sha256(b"wardround step key 1\0" + key).hexdigest()


def reserve_body(entry: Entry, mechanism: Mechanism, simulated: bool, key: bytes) -> dict[str, Any]:
    return entry_body(entry) | {
        "sigma": mechanism.noise_multiplier,
        "rate": mechanism.sampling_rate,
        "clip": mechanism.clip_norm,
        "expected_units": mechanism.expected_units,
        "unit": mechanism.unit.value,
        "placement": mechanism.placement.value,
        "simulated": simulated,
        "key": key_digest(key),
    }


def charge_of(index: int, body: Mapping[str, Any]) -> Charge:
    mechanism = Mechanism(
        noise_multiplier=body["sigma"],
        sampling_rate=body["rate"],
        clip_norm=body["clip"],
        expected_units=body["expected_units"],
        unit=Unit(body["unit"]),
        placement=Placement(body["placement"]),
    )
    return Charge(index, entry_of(body), mechanism, State.RESERVED, body["simulated"], body["at"], body["key"])
