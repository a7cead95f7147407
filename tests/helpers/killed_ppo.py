"""PPO on several processes, each of which kills itself after a number of steps: arguments are that number and the run folder."""

import os
import signal
import sys

from server.align import distributed_ppo
from server.align.checkpoint import PolicyState
from server.align.ppo import Task

_step = distributed_ppo._step


def step_or_die(task: Task, state: PolicyState, party: distributed_ppo.Party) -> PolicyState:
    if state.steps == int(sys.argv[1]):
        party.accelerator.wait_for_everyone()  # the checkpoint of the main process is written
        os.kill(os.getpid(), signal.SIGKILL)
    return _step(task, state, party)


distributed_ppo._step = step_or_die
distributed_ppo.main(sys.argv[2:])
