"""How a long stage tells a person that it is alive: counts, never text of a patient.

A stage says `start` once, `advance` while it works, and may leave a `note` of figures. What a reader sees is decided where
the command runs: bars on a terminal, one line a stage elsewhere, nothing in a test (`Silent`).
"""

from typing import Protocol


class Progress(Protocol):
    """Passed down as an argument. The same stage name may be started again; the newest start counts."""

    def start(self, stage: str, total: int) -> None:
        """`stage` begins (words a reader knows, such as "de-identify notes"); it will advance by `total` in all."""
        ...

    def advance(self, n: int = 1) -> None:
        """`n` more of the running stage are done."""
        ...

    def note(self, text: str) -> None:
        """One line about the running stage: figures and names of sites only, never text of a note, prompt or answer."""
        ...


class Silent:
    """Says nothing: for tests, and for libraries that were given no Progress."""

    def start(self, stage: str, total: int) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass
