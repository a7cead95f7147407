"""The figures of a run as one frozen value, and `summary.json`, the file other tools read.

The keys that DESIGN calls a contract stand at the top level under their own names; what a page needs beyond them stands
beside them. None means "not measured", and a page says so. `seconds`, `cpu_seconds` and `peak_rss_mb` depend on the machine; every
other figure is the same for the same seed, interrupted or not.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from common.errors import ConfigError, StorageError
from common.settings import Frozen
from common.storage import write_atomic
from server.evaluate.intervals import Estimate

SUMMARY = "summary.json"
READABLE = 0o644
MACHINE_KEYS = ("seconds", "cpu_seconds", "peak_rss_mb")
"""Figures of the machine, which a second run need not repeat."""


class Interval(Frozen):
    """A figure with its 95 % interval and the number of observations."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, estimate: Estimate) -> "Interval":
        return cls(value=estimate.value, low=estimate.low, high=estimate.high, n=estimate.n)


class SftFigures(Frozen):
    """Held-out loss in nats a token, before (bare base) and after; `improvement` is before − after, paired by example."""

    loss_before: float
    loss_after: float
    improvement: Interval


class RewardFigures(Frozen):
    """Accuracy on held-out pairs: the ensemble, each member, by group; what shallow baselines reach on the same pairs.

    steps: what the reward recipe had reached after each of its steps. calibration_error_after: once margins are divided by a temperature
    that was fitted on pairs of other prompts.
    """

    accuracy: Interval
    members: tuple[Interval, ...]
    by: dict[str, dict[str, Interval]] = Field(default={})
    baselines: dict[str, Interval] = Field(default={})
    calibration_error: float
    calibration_error_after: float | None = None
    temperature: float | None = None
    steps: dict[str, Interval] = Field(default={})


class BestOfFigures(Frozen):
    """The best of n answers of the SFT model by the ensemble's reward: that reward, the judge's score of it, and a bound on its KL in nats."""

    n: int
    kl: float
    reward: float
    judge: float


class HackingFigures(Frozen):
    """PPO against a flawed reward model, alone or among honest ones under watch, on held-out questions.

    `flawed_after` and `judge_after`, of the watch's judges and with its 95 % interval, are in deviations above the SFT model's answers;
    `worth_before` (SFT model) and `worth_after` are the mean scores of the judge that no model ever sees.
    """

    flaw: str
    protected: bool
    stopped: str
    steps: int
    kl: float
    flawed_after: float
    judge_after: float
    judge_low: float
    judge_high: float
    worth_before: float
    worth_after: float


class SeedFigures(Frozen):
    """PPO from one seed, on held-out questions. `rise`: of the reward, in deviations of the SFT model's answers to them. `cpu_seconds` of PPO."""

    seed: int
    steps: int
    stopped: str
    cpu_seconds: float
    kl: float
    reward_before: float
    reward_after: float
    rise: float
    judge_before: float
    judge_after: float
    win_rate: float
    win_rate_low: float
    win_rate_high: float


class PpoFigures(Frozen):
    """Reward of the ensemble before and after on held-out prompts, KL in nats a sequence, and the judge's verdict."""

    reward_before: float
    reward_after: float
    kl: float
    win_rate: float
    win_rate_low: float
    win_rate_high: float
    judge_before: float | None = Field(default=None, description="mean score of the SFT model's answers by the judge")
    judge_after: float | None = None
    judge: str = Field(default="", description="who judged, in words")
    steps: int = 0
    stopped: str | None = Field(default=None, description="why the run ended before its last step, or None")
    best_of: tuple[BestOfFigures, ...] = ()
    hacking: tuple[HackingFigures, ...] = ()
    seeds: tuple[SeedFigures, ...] = ()


class ContrastFigures(Frozen):
    """One question from two people who differ in a sentence about themselves: first − second, paired by question.

    judge_sft, judge_policy: of the judge's score of either model's answers. reward: of the ensemble's reward for one and the same answer.
    """

    name: str
    first: str
    second: str
    judge_sft: Interval
    judge_policy: Interval
    reward: Interval


class HarmFigures(Frozen):
    """On requests to be declined: how often the reward prefers the answer that declines, and how often either model declines.

    `declined_proper`: how often the policy declines proper requests on the same matters; None in a run that did not ask them.
    """

    reward_declines: Interval
    declined_sft: Interval
    declined_policy: Interval
    declined_proper: Interval | None = None


class MembershipFigures(Frozen):
    """How often an attack on `model` ranks a training example above another one; `permitted`: what no attack can pass at the study's ε and δ."""

    model: str
    area: Interval
    permitted: float


class ExposureFigures(Frozen):
    """Mean exposure of planted secrets in bits; what chance gives, and the most there can be."""

    model: str
    bits: Interval
    chance: float
    most: float


class AttackFigures(Frozen):
    """Attacks on the trained models by somebody who knows which examples to ask for."""

    membership: tuple[MembershipFigures, ...] = ()
    exposure: tuple[ExposureFigures, ...] = ()


class DeidFigures(Frozen):
    """Counts over all sites. `leak_upper_bound`: one-sided 95 % Clopper–Pearson bound on the share of notes that still hold an identifier."""

    notes: int
    identifiers: int
    quarantined: int
    leak_upper_bound: float | None = None
    by_class: dict[str, int] = Field(default={})
    reviewed: int = Field(default=0, description="notes whose output was compared with the truth or read by a person")


class LeakFigures(Frozen):
    """What was planted, where it was searched, and how often it was found (place, class, count). Places are messages and files."""

    planted: int
    too_short: int
    places: int
    message_bytes: int
    found: int
    findings: tuple[tuple[str, str, int], ...] = ()


class StageMechanism(Frozen):
    """One kind of private step: who ran it, how often, with what noise."""

    stage: str
    sites: tuple[str, ...]
    unit: str
    sampling_rate: float
    clip_norm: float
    noise_multiplier: float
    steps: int
    expected_units: float
    placement: str


class PrivacyFigures(Frozen):
    """What the DP statement needs. `engine` "none" means that nothing here protects anybody."""

    engine: str
    budget: float
    mechanisms: tuple[StageMechanism, ...] = ()
    by_stage: dict[str, dict[str, float]] = Field(default={}, description="stage → site → ε of that stage alone")
    other_units: dict[str, dict[str, float]] = Field(default={}, description="unit → site → ε, for units beside the study's main one")
    cross_checks: dict[str, float] = Field(default={}, description="other accountants' ε at the site that spent most")
    several_sites: dict[str, float] = Field(default={}, description="ε of a patient known to so many sites")
    exchange: str = "plain"
    aggregation: str = "mean"
    randomness: str = Field(default="seeded", description="`system` or `seeded`")


class Version(Frozen):
    """One row of the registry, for the lineage."""

    line: str
    number: int
    digest: str
    parents: tuple[str, ...] = ()


class GateFigure(Frozen):
    held: bool
    value: float | None
    threshold: float
    reason: str


class Figures(Frozen):
    """Everything measured; the gates are computed from it (`server/evaluate/gate.py`)."""

    wardround: str = Field(description="version of the program")
    study_id: str
    seed: int
    base: str
    config_digest: str
    simulated: bool
    not_private: bool
    sites: int
    patients: int
    rounds: int
    epsilon: dict[str, float]
    delta: float
    unit: str
    reward_accuracy: float | None
    ppo: PpoFigures | None
    contrasts: tuple[ContrastFigures, ...] = ()
    harm: HarmFigures | None = None
    attacks: AttackFigures | None = Field(default=None, description="None outside a simulation: nobody may say there who was a member")
    deid: DeidFigures | None = Field(description="None outside a simulation: these counts stay at the sites")
    bytes_up: int
    seconds: dict[str, float]
    cpu_seconds: dict[str, float] = Field(default={})
    peak_rss_mb: float
    sft: SftFigures | None
    reward: RewardFigures | None
    privacy: PrivacyFigures
    leaks: LeakFigures | None
    lineage: tuple[Version, ...] = ()
    not_checked: tuple[str, ...] = Field(default=(), description="sentences: what a reader might expect and was not done")


class Summary(Figures):
    gates: dict[str, GateFigure]

    @property
    def passed(self) -> bool:
        return all(g.held for g in self.gates.values())

    @property
    def stamps(self) -> tuple[str, ...]:
        return tuple(word for word, true in (("SIMULATED", self.simulated), ("NOT PRIVATE", self.not_private)) if true)

    def comparable(self) -> dict[str, Any]:
        """The figures without those of the machine: equal for two runs of the same study and seed."""
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in MACHINE_KEYS}

    def write(self, run: Path) -> Path:
        """Write RUN/summary.json, whole or not at all. Floats are written as they are: rounding is the page's business."""
        path = run / SUMMARY
        write_atomic(path, json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n", mode=READABLE)
        return path


def load_summary(run: Path) -> Summary:
    """RUN/summary.json. Raises ConfigError when the folder is no finished run, StorageError when it cannot be read."""
    path = run / SUMMARY
    try:
        return Summary.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; `wardround-coordinator summarize {run}` writes it, or `wardround simulate … --out {run} --resume` at its end"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot be read ({type(error).__name__})") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: not a summary of this version of Wardround: key `{key}`: {first['msg']}") from None


def figures_of(summary: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str | None]:
    """A summary's figures as flat "a.b.c" → number, for tables and CSV; lists are left out."""
    flat: dict[str, bool | int | float | str | None] = {}
    for key, value in summary.items():
        if isinstance(value, Mapping):
            flat |= figures_of(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, int | float | str):
            flat[prefix + key] = value
    return flat


def small(value: float) -> str:
    """A small number as people write it: 1e-6, not 1e-06."""
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
