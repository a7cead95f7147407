"""The coordinator's Flower app: one run of it trains one stage of the study in `run-dir`.

flwr run . NAME --run-config 'run-dir="/srv/study" stage="reward-0"'
"""

import contextlib
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.bases import shared_base
from common.errors import ConfigError, StorageError, WardroundError
from server.federate.orders import ObedientClock, alone
from server.federate.stages import require_stage, run_stage
from server.launching import failure_file, leave_reason
from server.run_folder import RunFolder, parse_line
from server.watcher import watcher

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    folder, line = str(context.run_config.get("run-dir", "")), str(context.run_config.get("stage", ""))
    if not Path(folder).is_absolute():
        raise ConfigError(f"run-config `run-dir` is {folder!r}; give the absolute path of a run folder on the coordinator's machine")
    run = RunFolder.open(Path(folder))
    failure_file(run, line).unlink(missing_ok=True)
    try:
        stage, member = parse_line(line)
        require_stage(run.study, stage, member)
        base = shared_base(run.study.model.base, run.study.model.dtype)
        watching = watcher()
        with alone(run):
            run_stage(
                run,
                stage,
                member,
                grid,
                base,
                progress=watching.progress,
                clock=ObedientClock(run),
                on_state=watching.on_state,
                score=watching.score,
            )
    except WardroundError as error:
        # Under `flwr run` this is a process of its own: whoever waits for it finds the reason on the disk, unless that is full.
        with contextlib.suppress(StorageError):
            leave_reason(run, line, error)
        raise
