"""Whatever happens to a ledger, what is spent never falls, and a step costs one charge for each set of inputs it ran on."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from common.privacy.ledger import Budget, Entry, Ledger, Reservation
from common.privacy.mechanism import Mechanism, Unit

STEP = Mechanism(5.0, 0.1, 1.0, 9.0, Unit.PATIENT)


class Memory:
    """A key cabinet that survives a restart of the ledger, as the vault does."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}

    def put(self, name: str, value: bytes) -> None:
        self.keys[name] = value

    def get(self, name: str) -> bytes | None:
        return self.keys.get(name)

    def erase(self, name: str) -> None:
        self.keys.pop(name, None)


def _open(folder: str, keys: Memory) -> Ledger:
    return Ledger.open(Path(folder) / "ledger.jsonl", {Unit.PATIENT: Budget(1000.0, 1e-6)}, keys)


actions = st.tuples(st.sampled_from(["reserve", "commit", "restart", "lose key", "torn write"]), st.integers(0, 2), st.sampled_from("ab"))


@settings(max_examples=60, deadline=None)
@given(st.lists(actions, max_size=14))
def test_spending_never_falls_and_no_open_step_is_charged_twice(script: list[tuple[str, int, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keys = Memory()
        ledger = _open(folder, keys)
        spent_before, open_now = 0, {}
        given_out: dict[int, tuple[bytes, str]] = {}
        for action, step, inputs in script:
            if action == "reserve":
                entry = Entry("study", "sft", step, 0, 0, inputs * 64)
                charges = len(ledger.charges())
                reservation: Reservation = ledger.reserve(entry, STEP)
                previous = open_now.get(step)
                replay = previous is not None and previous.entry == entry and f"ledger-step-{previous.index}" in keys.keys
                assert reservation.replayed == replay
                assert len(ledger.charges()) == charges + (not replay)
                # One key belongs to one row and one set of inputs, for ever.
                assert given_out.setdefault(reservation.index, (reservation.key, inputs)) == (reservation.key, inputs)
                open_now[step] = reservation
            elif action == "commit" and step in open_now:
                ledger.commit(open_now.pop(step))
            elif action == "lose key" and step in open_now:
                keys.erase(f"ledger-step-{open_now[step].index}")
            elif action == "torn write":
                with (Path(folder) / "ledger.jsonl").open("ab") as file:
                    file.write(b'{"body":{"att')
            elif action == "restart":
                ledger = _open(folder, keys)
            spent = sum(m.steps for m in ledger.spent(Unit.PATIENT))
            assert spent >= spent_before, f"{action}: {spent_before} → {spent}"
            spent_before = spent
        assert len({key for key, _ in given_out.values()}) == len(given_out)
        reread = _open(folder, keys)
        assert reread.spent(Unit.PATIENT) == ledger.spent(Unit.PATIENT)
        reread.verify()
