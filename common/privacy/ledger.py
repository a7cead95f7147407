"""What one site has spent of its patients' privacy, written down before it is spent.

A step is *reserved* (a row on the disk, with its key sealed in the vault) before any data is read, run, and *committed* once its noised
update is stored. After a crash the same step with the same inputs gets the same reservation and key: replayed bit for bit it is one release,
charged once. With other inputs, or without its key, the old row stays spent and a new one is charged.

    ledger = Ledger.open(folder / "ledger.jsonl", {Unit.PATIENT: Budget(8.0, 1e-6)}, vault)
    reservation = ledger.reserve(Entry("study", "sft", round=0, attempt=0, step=0, inputs_digest=digest), mechanism)
    ...                       # train with reservation.key, store the update
    ledger.commit(reservation)

One ledger holds every data set, study and coordinator of the site, and one account per unit type: ε of different units is never added.

Protects against: training that was never accounted; a crash that frees a budget or spends it twice; two processes that spend the last of it
at once; noise used again on other inputs; an older ledger file put back beside a newer vault.
Does not protect against: a restored copy of the whole site, vault included. `head` is shown to the peers, who refuse one that went back (`heads.py`).
"""

import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from common.errors import BudgetExhausted, ConfigError, JournalBroken
from common.journal import Journal
from common.privacy.accounting import GATE_DISCRETIZATION, Merged, epsilon_merged, merge
from common.privacy.charges import Budget, Charge, Entry, State, charge_of, entry_body, entry_of, key_digest, reserve_body
from common.privacy.mechanism import Mechanism, Placement, Unit

__all__ = ["KEY_BYTES", "Budget", "Charge", "Entry", "KeyCabinet", "KeySource", "Ledger", "Reservation", "State", "SystemKeys"]

KEY_BYTES = 32
_HEAD = "ledger-head"


class KeyCabinet(Protocol):
    """Where step keys lie sealed. The vault is one. `put` must be on the disk before it returns, `erase` of nothing is no error."""

    def put(self, name: str, value: bytes) -> None: ...
    def get(self, name: str) -> bytes | None: ...
    def erase(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True, repr=False)
class Reservation:
    """The right to run one step, with the 256-bit key of all its random draws. `replayed` says that it was reserved before a crash."""

    index: int
    entry: Entry
    mechanism: Mechanism
    key: bytes
    replayed: bool

    def __repr__(self) -> str:
        return f"Reservation(row {self.index}, {self.entry.stage}, round {self.entry.round}, step {self.entry.step})"


class KeySource(Protocol):
    """Where a step's key comes from. `simulated` is written into the row, and a release refuses what is simulated."""

    simulated: bool

    def step_key(self, entry: Entry, placement: Placement) -> bytes: ...


class SystemKeys:
    """Keys from the operating system's CSPRNG: the only source outside simulations."""

    simulated = False

    def step_key(self, entry: Entry, placement: Placement) -> bytes:
        del entry, placement  # a key that depends on nothing cannot be guessed from anything
        return secrets.token_bytes(KEY_BYTES)


class Ledger:
    """See the head of the module. All methods may be called from several processes on the same file."""

    def __init__(self, journal: Journal, budgets: Mapping[Unit, Budget], keys: KeyCabinet, clock: Callable[[], datetime]) -> None:
        self._journal, self.budgets, self._keys, self._clock = journal, dict(budgets), keys, clock
        self._charges: dict[int, Charge] = {}
        self._spent: dict[tuple[Unit, str | None], Counter[Mechanism]] = {}  # by unit and study; None adds up all studies
        self._unprotected: list[Entry] = []
        self._seen = 0  # rows that are taken into the fields above
        self._affordable: dict[tuple[Unit, Budget, str | None], Merged] = {}

    @classmethod
    def open(
        cls,
        path: Path,
        budgets: Mapping[Unit, Budget],
        keys: KeyCabinet,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> "Ledger":
        """Open or create. Raises JournalBroken when the chain does not hold or the vault has seen a later ledger than this file."""
        ledger = cls(Journal.open(path), budgets, keys, clock)
        with ledger._locked():
            ledger._refuse_older_copy()
            ledger._erase_spent_keys()
        return ledger

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def head(self) -> tuple[int, str]:
        """(rows, digest of the last): what peers keep, so that a ledger that went back is noticed."""
        return self._journal.head

    def charges(self) -> list[Charge]:
        """Every step ever reserved, in order."""
        with self._locked():
            return list(self._charges.values())

    @property
    def unprotected(self) -> bool:
        """Whether this site ever trained with `engine = "none"`; from then on ε of every unit is infinite."""
        with self._locked():
            return bool(self._unprotected)

    def spent(self, unit: Unit, study: str | None = None) -> list[Mechanism]:
        """What was done to this unit type, by all studies or by one; equal mechanisms are one with their steps added."""
        with self._locked():
            counts = self._spent.get((unit, study), Counter())
            return [mechanism.times(steps) for mechanism, steps in counts.items()]

    def epsilon(self, unit: Unit, *, delta: float | None = None, discretization: float = GATE_DISCRETIZATION) -> float:
        """ε spent so far, at the budget's δ unless another is given. Raises ConfigError when neither is known."""
        if self.unprotected:
            return float("inf")
        if delta is None:
            delta = self._budget(unit).delta
        return epsilon_merged(merge(self.spent(unit)), delta, discretization)

    def remaining(self, unit: Unit) -> float:
        """ε that is left of the budget, at least 0. Not a sum to spend at once: ε does not compose by addition."""
        return max(0.0, self._budget(unit).epsilon - self.epsilon(unit))

    def verify(self) -> None:
        """Check every digest on the disk. Raises JournalBroken."""
        self._journal.verify()

    # -- spending ------------------------------------------------------------------------------------------------------

    def admit(self, study: str, mechanisms: Sequence[Mechanism], *, limit: Budget | None = None) -> None:
        """Raises BudgetExhausted unless all `mechanisms` fit on top of what is spent; reserves nothing.

        limit bounds the study's own spend, where it is stricter than the hospital's budget for all studies. The total is remembered, so
        that the steps of an admitted schedule are later admitted without any arithmetic.
        """
        with self._locked():
            for unit in {m.unit for m in mechanisms}:
                extra = [m for m in mechanisms if m.unit is unit]
                self._afford(unit, self._budget(unit), None, extra, "this hospital allows")
                if limit is not None:
                    self._afford(unit, limit, study, extra, f"study `{study}` allows itself")

    def reserve(
        self, entry: Entry, mechanism: Mechanism, *, limit: Budget | None = None, keys_from: KeySource | None = None
    ) -> Reservation:
        """The right to run one step, charged before it runs. Raises BudgetExhausted with nothing charged.

        The same step with the same inputs, reserved and not committed, is given again with its key (a replay); under placement `sum`
        another attempt is another step. A reserved step with other inputs stays spent and is closed as skipped.
        """
        if mechanism.steps != 1:
            raise ConfigError(f"a reservation is for one step, not {mechanism.steps}; reserve each before it runs")
        with self._locked():
            open_charge = self._open_charge(entry, mechanism)
            if open_charge is not None:
                key = self._keys.get(_key_name(open_charge.index))
                same = open_charge.entry.inputs_digest == entry.inputs_digest and open_charge.mechanism == mechanism
                if key is not None and same and key_digest(key) == open_charge.key_digest:
                    return Reservation(open_charge.index, open_charge.entry, mechanism, key, replayed=True)
                self._skip(open_charge)
            self.admit(entry.study, [mechanism], limit=limit)
            source = SystemKeys() if keys_from is None else keys_from
            key = source.step_key(entry, mechanism.placement)
            if len(key) != KEY_BYTES:
                raise ConfigError(f"the step key has {len(key)} bytes; it must have {KEY_BYTES}")
            index = self._journal.head[0]
            # The key is sealed before the row stands: a row without a key could not be replayed, a key without a row is never used.
            self._keys.put(_key_name(index), key)
            self._append("reserve", reserve_body(entry, mechanism, source.simulated, key))
            self._seal_head()
            return Reservation(index, entry, mechanism, key, replayed=False)

    def commit(self, *reservations: Reservation) -> None:
        """The updates are stored: close the steps and erase their keys, after which nobody can take the noise off again.

        All in one row: a crash leaves either all of them open, to be replayed together, or none.
        """
        with self._locked():
            closing = []
            for reservation in reservations:
                charge = self._charges.get(reservation.index)
                if charge is None or charge.entry != reservation.entry or charge.state is State.SKIPPED:
                    raise JournalBroken(f"{self._journal.path}: row {reservation.index} is not an open reservation of this step")
                if charge.state is State.RESERVED:
                    closing.append(reservation.index)
            if closing:
                self._append("commit", {"rows": closing})
            for reservation in reservations:
                self._keys.erase(_key_name(reservation.index))

    def record_unprotected(self, entry: Entry) -> None:
        """A step without any privacy is about to run. Written once a step; ε of this site is infinite from here on."""
        with self._locked():
            if entry not in self._unprotected:
                self._append("unprotected", entry_body(entry))
                self._seal_head()  # an older file put back would make ε finite again

    # -- inside --------------------------------------------------------------------------------------------------------

    def _budget(self, unit: Unit) -> Budget:
        if unit not in self.budgets:
            raise BudgetExhausted(
                f"this hospital has no budget for the unit `{unit}` (it has one for: {', '.join(sorted(self.budgets)) or 'none'}); "
                "add it to the hospital's policy or let the study choose another unit"
            )
        return self.budgets[unit]

    def _afford(self, unit: Unit, budget: Budget, study: str | None, extra: Iterable[Mechanism], who: str) -> None:
        if self._unprotected:
            raise BudgetExhausted(
                'this site has trained without privacy (`engine = "none"`), so its ε is infinite; private studies need a site whose data was never used so'
            )
        before = self.spent(unit, study)
        after = merge([*before, *extra])
        place = (unit, budget, study)
        if _within(after, self._affordable.get(place, ())):
            return
        cost = epsilon_merged(after, budget.delta)
        if cost > budget.epsilon:
            raise BudgetExhausted(
                f"ε would rise from {epsilon_merged(merge(before), budget.delta):.3f} to {cost:.3f} at δ = {budget.delta:g} for the unit `{unit}`, above the "
                f"{budget.epsilon:.3f} that {who}; train fewer steps, add noise or lower `privacy.sampling_rate`"
            )
        self._affordable[place] = after

    def _open_charge(self, entry: Entry, mechanism: Mechanism) -> Charge | None:
        def same_step(other: Entry) -> bool:
            if mechanism.placement is Placement.SITE:
                # A repeated round under `site` asks for the same noised update again; it is not another release.
                other = replace(other, attempt=entry.attempt)
            return replace(other, inputs_digest=entry.inputs_digest) == entry

        found = (c for c in reversed(self._charges.values()) if c.state is State.RESERVED and same_step(c.entry))
        return next(found, None)

    def _skip(self, charge: Charge) -> None:
        self._keys.erase(_key_name(charge.index))
        self._append("skip", {"rows": [charge.index]})

    def _append(self, kind: str, body: Mapping[str, Any]) -> None:
        self._journal.append(kind, {**body, "at": self._clock().isoformat(timespec="seconds")})
        self._catch_up()

    def _seal_head(self) -> None:
        """After every row that spends: the vault then knows that the file must hold it."""
        rows, digest = self._journal.head
        self._keys.put(_HEAD, f"{rows} {digest}".encode())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._journal.locked():
            self._catch_up()
            yield

    def _catch_up(self) -> None:
        rows = self._journal.rows_from(self._seen)
        for row in rows:
            body: Mapping[str, Any] = row.body
            try:
                match row.kind:
                    case "reserve":
                        charge = charge_of(row.index, body)
                        self._charges[row.index] = charge
                        for study in (None, charge.entry.study):
                            self._spent.setdefault((charge.mechanism.unit, study), Counter())[charge.mechanism] += 1
                    case "commit" | "skip":
                        state = State.COMMITTED if row.kind == "commit" else State.SKIPPED
                        for index in body["rows"]:
                            self._charges[index] = replace(self._charges[index], state=state)
                    case "unprotected":
                        self._unprotected.append(entry_of(body))
                    case _:
                        raise KeyError(row.kind)
            except (KeyError, TypeError, ValueError, ConfigError):
                raise JournalBroken(
                    f"{self._journal.path}: row {row.index} is not one that this version writes; use the version that wrote it"
                ) from None
            self._seen += 1

    def _refuse_older_copy(self) -> None:
        seal = self._keys.get(_HEAD)
        if seal is None:
            return
        count, _, digest = seal.decode().partition(" ")
        rows = self._journal.rows_from(int(count) - 1)
        if not rows or rows[0].digest != digest:
            raise JournalBroken(
                f"{self._journal.path}: the vault has seen {count} rows of this ledger and the file does not hold them; "
                "an older or foreign copy was put back. Restore the latest one: what it lacks is spent all the same"
            )

    def _erase_spent_keys(self) -> None:
        """A crash between a commit's row and the erasure leaves the key; only rows after the last reservation can be affected."""
        for row in reversed(self._journal.rows()):
            if row.kind == "reserve":
                return
            if row.kind == "commit":
                closed: Any = row.body["rows"]
                for index in closed:
                    self._keys.erase(_key_name(index))


def _within(inner: Merged, outer: Merged) -> bool:
    allowed = {(sigma, rate): steps for sigma, rate, steps in outer}
    return all(steps <= allowed.get((sigma, rate), 0) for sigma, rate, steps in inner)


def _key_name(index: int) -> str:
    return f"ledger-step-{index}"
