"""Every expected failure of Wardround, as one family.

    WardroundError
    ├── ConfigError            a study, policy or data set description that cannot be used
    ├── IntakeError            a hospital export that cannot be read: file, line, field
    ├── ModelUnavailable       a base model or adapter that is not there or does not fit
    ├── ShapeError             arrays that do not fit each other
    ├── TrainingRefused        a step whose privacy guarantee could not be kept
    ├── NotFinite              a NaN or infinity where a number must stand
    ├── PolicyRefused          the hospital's own policy does not permit the request
    ├── BudgetExhausted        the request would spend more ε than is left
    ├── GateRefused            a data set without a valid token of the de-identification gate
    ├── StorageError           a disk that is full, a file that cannot be written or locked
    │   └── JournalBroken      a hash chain that does not hold
    ├── RosterRefused          a key or roster that is not the pinned one, expired, or went back
    ├── SealBroken             an envelope that does not open; never says why
    ├── ProtocolError          a message that does not belong here: version, study, round, size
    │   └── TooFewSurvivors    a round with fewer updates than the study needs
    ├── RunLost                a ServerApp or SuperLink that died; the run stands at its last committed round
    ├── RunStopped             a study that its desk paused
    │   └── RunAborted         or ended for good
    └── ReleaseRefused         a model that may not be released, with its reasons

A message names the number, the bound and the remedy, and never the text of a note: it may be read by the coordinator's
desk. What a site sends out is only the `code` of the class (see `client/app.py`).
"""

from pathlib import Path
from typing import Self


class WardroundError(Exception):
    """The root; `code` is the only part of an error that may leave a hospital."""

    code = "failed"


class ConfigError(WardroundError):
    code = "config"


class IntakeError(WardroundError):
    """A hospital export that cannot be read. Names file, line and field, never the value that stood there."""

    code = "intake"

    def __init__(self, path: Path, line: int | None, field: str | None, problem: str) -> None:
        self.path, self.line, self.field, self.problem = path, line, field, problem
        place = str(path) + (f", line {line}" if line is not None else "")
        super().__init__(f"{place}{f', field `{field}`' if field else ''}: {problem}")

    def __reduce__(self) -> tuple[type[Self], tuple[Path, int | None, str | None, str]]:
        return type(self), (self.path, self.line, self.field, self.problem)  # crosses from a worker process to its parent


class ModelUnavailable(WardroundError):
    code = "model"


class ShapeError(WardroundError):
    code = "shape"


class TrainingRefused(WardroundError):
    code = "training"


class NotFinite(WardroundError):
    code = "not-finite"


class PolicyRefused(WardroundError):
    code = "policy"


class BudgetExhausted(WardroundError):
    code = "budget"


class GateRefused(WardroundError):
    code = "gate"


class StorageError(WardroundError):
    code = "storage"


class JournalBroken(StorageError):
    code = "journal"


class RosterRefused(WardroundError):
    code = "roster"


class SealBroken(WardroundError):
    """An envelope that does not open. The message is constant: a reason would help whoever made the envelope."""

    code = "seal"

    def __init__(self) -> None:
        super().__init__("the sealed message does not open")

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


class ProtocolError(WardroundError):
    code = "protocol"


class TooFewSurvivors(ProtocolError):
    code = "survivors"


class RunLost(WardroundError):
    code = "lost"


class RunStopped(WardroundError):
    """Not a fault: somebody asked for it, and `resume` goes on."""

    code = "paused"


class RunAborted(RunStopped):
    code = "aborted"


class ReleaseRefused(WardroundError):
    code = "release"
