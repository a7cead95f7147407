"""A trial on the disk: a kill costs one step, and what was measured is not measured again.

    RUN/trials/NAME-DIGEST/ppo.safetensors   the state after the last step
    RUN/trials/NAME-DIGEST/figures.json      what was measured of its policy

DIGEST names all that the trial is made from, so another study, model or reward never meets what this one left.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from common.errors import StorageError
from common.progress import Progress
from common.settings import Frozen
from common.storage import storage_errors, write_atomic
from server.align.checkpoint import load_state, save_state
from server.align.experience import POLICY
from server.align.ppo import PolicyResult, Task, train_policy

F = TypeVar("F", bound=Frozen)
READABLE = 0o644


def tried(run: Path, name: str, task: Task, kind: type[F], measure: Callable[[PolicyResult], F], progress: Progress) -> F:
    """Train what is left to train of `task` and `measure` it while the policy is on the base; or what an earlier call measured.

    Leaves no policy behind. Raises as `train_policy` does, and StorageError; after each of them the trial can be resumed.
    """
    folder = run / "trials" / f"{name}-{task.binding[:16]}"
    with storage_errors(folder, "keep a trial there"):
        folder.mkdir(parents=True, exist_ok=True)
    path, checkpoint = folder / "figures.json", folder / "ppo.safetensors"
    if path.exists():
        return _read(path, kind)
    result = train_policy(task, load_state(checkpoint, task.binding), save=partial(save_state, checkpoint), progress=progress)
    found = measure(result)
    task.base.drop(POLICY)
    write_atomic(path, found.model_dump_json(indent=1) + "\n", mode=READABLE)
    checkpoint.unlink(missing_ok=True)
    return found


def _read(path: Path, kind: type[F]) -> F:
    with storage_errors(path, "read the figures of a trial"):
        text = path.read_text(encoding="utf-8")
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        raise StorageError(f"{path}: cannot be read; remove it to measure the trial again") from None
