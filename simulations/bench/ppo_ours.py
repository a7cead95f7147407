"""The process that does our PPO steps for `ppo.py`, and measures what the machine itself would need for one."""

import json
import sys
import time
from collections.abc import Callable

import torch

from common.bases import load_base
from common.config import AdapterConfig, Factors, ModelConfig, PPOConfig, RewardConfig, SimulationConfig, StudyConfig
from server.align.members import AdapterMember
from server.align.ppo import Task, start, step
from server.align.rewards import Ensemble, Reward
from server.align.terms import Weighted, missing_end
from simulations.bench.ppo_child import EPOCHS, LEARNING_RATE, RANK, TARGETS, TEMPERATURE, VALUE_COEFFICIENT, answering, peak_mb, prompts


def task_of(base_name: str, layout: str, count: int, new_tokens: int, steps: int) -> Task:
    """A run of `steps` steps as TRL's: one reward adapter, a fixed KL coefficient, all rows in one batch."""
    adapter = AdapterConfig.model_validate({"rank": RANK, "alpha": 2 * RANK, "targets": TARGETS, "factors": Factors.LORA})
    study = StudyConfig(
        model=ModelConfig(base=base_name, max_prompt_tokens=64, max_answer_tokens=new_tokens + 1),
        ppo=PPOConfig(
            steps=steps + 1, prompts_per_step=count, minibatch=count, max_new_tokens=new_tokens, temperature=TEMPERATURE, epochs=EPOCHS,
            learning_rate=LEARNING_RATE, value_coefficient=VALUE_COEFFICIENT, variance_penalty=0.0, kl_budget=1e9,
            microbatch_tokens=8192, value_trunk="own" if layout == "ours_own_value" else "shared",
            value_adapter=adapter,
        ),
        simulation=SimulationConfig(hospitals=3),
        reward=RewardConfig(members=1),
    )  # fmt: skip
    base = load_base(base_name, "bfloat16")
    base.put("sft", base.spec(adapter).initial())
    base.put("reward-0", base.spec(adapter, head=True).initial())
    reward = Reward(Ensemble((AdapterMember(base, "reward-0", study.model),)), (Weighted("missing_end", missing_end, 1.0),))
    return Task(study, base, "sft", prompts(count), reward, "bench")


def floor(task: Task, tokens: int) -> dict[str, object]:
    """Least CPU seconds of a step on this core: weights read once a decoding step, and the products at the speed of a large one.

    A token costs 2·P flops forward and 4·P forward and backward with a frozen base (P parameters); memory is what the libraries and
    the base's weights take.
    """
    weights = list(task.base.lm.parameters())
    parameters, held = sum(p.numel() for p in weights), sum(p.numel() * p.element_size() for p in weights)
    size, source, dtype = 1024, torch.randn(64_000_000), weights[0].dtype  # float32 where the machine has no units for bfloat16
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    flops = 2 * size**3 / _least(lambda: a @ b)
    bandwidth = source.numel() * 4 / _least(source.sum)
    config = task.config
    new, read = config.max_new_tokens, tokens
    decode = new * held / bandwidth
    forward, update = 3 * read * 2 * parameters / flops, config.epochs * read * 4 * parameters / flops
    return {
        "layout": "floor", "cpu_seconds": decode + forward + update, "cpu_seconds_generate": decode, "cpu_seconds_score": forward,
        "cpu_seconds_update": update, "gigaflops": flops / 1e9, "gigabytes_per_second": bandwidth / 1e9, "weights_mb": held / 1e6,
    }  # fmt: skip


def _least(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(20):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def main() -> None:
    asked = json.loads(sys.argv[1])
    answer = answering()
    task = task_of(asked["base"], asked["layout"], asked["prompts"], asked["new_tokens"], asked["steps"])
    state = start(task)
    answer({"ready": True})
    for line in sys.stdin:
        if line.strip() == "floor":
            answer(floor(task, int(state.records[-1].figures["tokens"])))
            continue
        began = time.process_time()
        state = step(task, state)
        cpu, record = time.process_time() - began, state.records[-1]
        tokens = round(record.figures["length"] * task.config.prompts_per_step)
        answer({"cpu": cpu, "phases": record.seconds, "peak_mb": peak_mb(), "tokens": tokens})


if __name__ == "__main__":
    main()
