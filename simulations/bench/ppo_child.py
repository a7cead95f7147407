"""What the processes of the PPO comparison share: how they are asked, what they measure, and the prompts."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Answer = Callable[[Mapping[str, Any]], None]
_COMPLAINTS = (
    "a headache",
    "a sore throat",
    "back pain",
    "a rash on my arm",
    "an upset stomach",
    "a blocked nose",
    "a twisted ankle",
    "a cough",
)
RANK, TARGETS = 8, ("q_proj", "k_proj", "v_proj", "o_proj")
"""Of every adapter on both sides."""
EPOCHS, LEARNING_RATE, VALUE_COEFFICIENT, TEMPERATURE = 2, 1e-4, 0.1, 1.0


def prompts(count: int) -> list[str]:
    """Questions of about thirty tokens in the chat format."""
    return [f"I have had {_COMPLAINTS[i % 8]} for {2 + i} days and it is not getting better. What should I do?" for i in range(count)]


def answering() -> Answer:
    """Takes standard output for answers alone; whatever else is printed goes to standard error."""
    channel, sys.stdout = sys.stdout, sys.stderr

    def answer(found: Mapping[str, Any]) -> None:
        channel.write(json.dumps(found) + "\n")
        channel.flush()

    return answer


def peak_mb() -> float:
    """The most resident memory this process ever had, of its own: `ru_maxrss` would count what it was started from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
