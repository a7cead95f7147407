"""One PPO step on the shared base against the same step of TRL 1.12, the last release that has PPO.

Every layout does the same work on the same prompts with the same model: rollout, scoring by policy, reference, reward and value, two
epochs of clipped updates over all rows in one batch. All use bfloat16 wherever their library offers it.

    ours                 one base, adapters on it; the value head reads the policy's trunk
    ours_own_value       the same with an adapter of its own for the value function
    trl_four_models      policy, reference, reward and value model whole, in float32 with bf16 autocast
    trl_lora             LoRA on policy, reward and value, three bases in float32 with bf16 autocast; the reference is the bare policy
    trl_lora_bf16        the same with the bases stored in bfloat16

TRL 1.12 stands in a folder of its own in the user's cache, made at the first run by pip without dependencies, and is put before the
installed TRL for its own processes alone. Each layout is one process, so its peak memory is its own; processes take turns, step by step.
The four models and the LoRA layouts are measured one group after the other, ours in both, so that all fit into 16 GB.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

from common.errors import ConfigError
from common.journal import JSON
from common.progress import Progress
from simulations.bench.figures import Outcome, Ratio, ratio, summary

OURS: Final = "ours"
FOUR: Final = "trl_four_models"
OWN: Final = "ours_own_value"
LORAS = ("trl_lora", "trl_lora_bf16")
GROUPS = ((OURS, OWN, FOUR), (OURS, OWN, *LORAS))
TRL = "trl==1.12.0"
PROMPTS, NEW_TOKENS = 8, 24
TARGETS = {"four_cpu": 1 / 3, "four_memory": 1 / 3, "lora_cpu": 1 / 2, "lora_memory": 1 / 1.7}
ROOT = Path(__file__).resolve().parents[2]


class PpoStep:
    """`wardround bench ppo`. The LoRA keys are against TRL's best LoRA layout, chosen for CPU time and for memory apart."""

    name = "ppo"
    about = "one PPO step on the shared base against TRL 1.12 with four models and with LoRA"

    def __init__(self, base: str = "smollm2-135m-instruct", prompts: int = PROMPTS, new_tokens: int = NEW_TOKENS) -> None:
        self._asked: dict[str, JSON] = {"base": base, "prompts": prompts, "new_tokens": new_tokens}

    def run(self, repetitions: int, progress: Progress) -> Outcome:
        trl = trl_folder(progress)
        four, loras = (self._group(layouts, repetitions, trl, progress) for layouts in GROUPS)
        rows = [_row(layout, steps) for layout, steps in {**loras.steps, **four.steps}.items()]
        return Outcome(self.name, (*rows, loras.floor), _ratios(four.steps, loras.steps))

    def _group(self, layouts: Sequence[str], repetitions: int, trl: Path, progress: Progress) -> "Group":
        """Every layout `repetitions` times in turn; the first step of each builds its caches and does not count."""
        progress.start(f"PPO steps of {', '.join(layouts)}", len(layouts) * (repetitions + 2))
        steps: dict[str, list[Step]] = {layout: [] for layout in layouts}
        with ExitStack() as stack:
            workers = {}
            for layout in layouts:
                asked: dict[str, JSON] = {**self._asked, "layout": layout, "steps": repetitions + 1}
                workers[layout] = stack.enter_context(Worker(layout, asked, trl))
                progress.advance()
            for repetition in range(repetitions + 1):
                first = repetition % len(layouts)
                for layout in (*layouts[first:], *layouts[:first]):
                    steps[layout].append(workers[layout].step())
                    progress.advance()
            return Group({layout: of[1:] for layout, of in steps.items()}, workers[OURS].floor())


@dataclass(frozen=True, slots=True)
class Group:
    """What a group's layouts cost, step by step, and what the machine itself would need for ours."""

    steps: Mapping[str, Sequence["Step"]]
    floor: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Step:
    """What one step cost: CPU seconds in all and by phase, the process's peak of resident memory so far, and tokens written."""

    cpu: float
    phases: Mapping[str, float]
    peak_mb: float
    tokens: int


class Worker:
    """A layout in a process of its own, which does one step when it is told to. Raises ConfigError when it dies."""

    def __init__(self, layout: str, asked: Mapping[str, JSON], trl: Path) -> None:
        self._layout = layout
        ours = layout.startswith(OURS)
        module = "simulations.bench.ppo_ours" if ours else "simulations.bench.ppo_trl"
        path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path if ours else [str(trl), *path])}
        # What TRL says while it works goes to a file, and is shown when its process dies.
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(asked)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        try:
            self._answer()
        except ConfigError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def step(self) -> Step:
        return Step(**self._ask("step"))

    def floor(self) -> dict[str, JSON]:
        """What the machine itself would need for this layout's step."""
        return dict(self._ask("floor"))

    def _ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._said.seek(0)
            last = self._said.read().decode(errors="replace").strip().splitlines()[-3:]
            raise ConfigError(f"the process of layout `{self._layout}` ended with code {self._process.returncode}: {' | '.join(last)}")
        found: dict[str, Any] = json.loads(line)
        return found


def trl_folder(progress: Progress) -> Path:
    """The folder that holds TRL 1.12 alone. Raises ConfigError when pip cannot get it."""
    from common.bases import cache_folder

    folder = cache_folder() / "bench" / TRL.replace("==", "-")
    if (folder / "trl").is_dir():
        return folder
    progress.start(f"install {TRL} for the comparison", 1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent))
    # Its dependencies are the installed ones: the same torch, transformers and PEFT on both sides.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(staging), TRL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(staging)
        raise ConfigError(
            f"pip cannot install {TRL} ({done.stderr.strip().splitlines()[-1:]}); connect to a package index, or put it into {folder}"
        )
    staging.rename(folder)
    progress.advance()
    return folder


def _row(layout: str, steps: Sequence[Step]) -> dict[str, JSON]:
    cpu = summary([step.cpu for step in steps], 0.0)
    phases: dict[str, JSON] = {
        f"cpu_seconds_{phase}": summary([step.phases[phase] for step in steps], 0.0).median for phase in steps[0].phases
    }
    return {
        "layout": layout, "cpu_seconds": cpu.median, "cpu_seconds_low": cpu.low, "cpu_seconds_high": cpu.high, "peak_mb": steps[-1].peak_mb,
        "tokens_written": sum(step.tokens for step in steps) / len(steps), **phases,
    }  # fmt: skip


def _ratios(four: Mapping[str, Sequence[Step]], loras: Mapping[str, Sequence[Step]]) -> dict[str, Ratio]:
    fastest = min(LORAS, key=lambda layout: summary(_cpu(loras[layout]), 0.0).median)
    smallest = min(LORAS, key=lambda layout: summary(_memory(loras[layout]), 0.0).median)
    found: dict[str, Ratio] = {}
    for ours, suffix in ((OURS, ""), (OWN, "_own_value")):
        found |= {
            f"cpu_vs_trl_four_models{suffix}": ratio(_cpu(four[ours]), _cpu(four[FOUR]), TARGETS["four_cpu"]),
            f"memory_vs_trl_four_models{suffix}": ratio(_memory(four[ours]), _memory(four[FOUR]), TARGETS["four_memory"]),
            f"cpu_vs_trl_lora{suffix}": ratio(_cpu(loras[ours]), _cpu(loras[fastest]), TARGETS["lora_cpu"]),
            f"memory_vs_trl_lora{suffix}": ratio(_memory(loras[ours]), _memory(loras[smallest]), TARGETS["lora_memory"]),
        }
    return found


def _cpu(steps: Sequence[Step]) -> list[float]:
    return [step.cpu for step in steps]


def _memory(steps: Sequence[Step]) -> list[float]:
    return [step.peak_mb for step in steps]
