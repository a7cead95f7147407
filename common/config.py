"""A study as one frozen value: TOML in, one validated object out, built once at the edge and passed down.

Unknown keys are refused, every bound is stated, and every error names the key. The coordinator proposes a `StudyConfig`;
a hospital's own `HospitalPolicy` (`client/hospital/policy.py`) can only make it stricter.
"""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from common.errors import ConfigError
from common.privacy.mechanism import LARGEST_NOISE, SMALLEST_NOISE, Placement, Unit
from common.settings import Frozen, explain, read_toml, validated

MINIMUM_SITES = 3
"""With two sites the sum reveals the other's update to each of them, so a round of fewer than three is refused."""


Aspect = Literal["overall", "accuracy", "safety", "clarity", "empathy"]
"""What a reward head judges: the plain choice, or one property that clinicians rate or tag apart."""


SHIPPED_BASES = ("smollm2-135m-instruct", "tiny")
"""Base models that come with the package: their weights are the same at every site, and nothing is fetched for them."""


class Engine(StrEnum):
    FAST = "fast"
    OPACUS = "opacus"
    NONE = "none"


class Factors(StrEnum):
    """Which LoRA factors the hospitals train: B alone with A frozen from a public seed, one after the other by round, both, or none: the
    reward head alone, on what public pretraining made of the model."""

    FFA = "ffa"
    ROLORA = "rolora"
    LORA = "lora"
    HEAD = "head"


class Stage(StrEnum):
    SFT = "sft"
    REWARD = "reward"


class ModelConfig(Frozen):
    base: str = Field(default="smollm2-135m-instruct", description="`smollm2-135m-instruct`, `tiny`, a Hub id, or a path")
    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16",
        description="storage of the frozen base, in memory float32 where the machine cannot multiply bfloat16; adapters are always float32",
    )
    max_prompt_tokens: int = Field(default=96, ge=8, le=8192)
    max_answer_tokens: int = Field(default=64, ge=4, le=8192)


Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "c_attn", "c_proj", "c_fc"]


class AdapterConfig(Frozen):
    """A LoRA adapter in PEFT's terms. `last_layers` limits it to the upper layers of the base; None means all."""

    rank: int = Field(default=8, ge=1, le=256)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[Target, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    whole: tuple[Target, ...] = Field(
        default=(),
        description="those of the targets that are trained whole, as many numbers as the layer has: the noise grows with their root",
    )
    last_layers: int | None = Field(default=None, ge=1)
    factors: Factors = Factors.FFA
    reads: Literal["answer", "question"] = Field(
        default="answer",
        description="of a reward: the head at the answer's end, or the likelihood of the question given the answer plus the head at the question's end",
    )
    seed: int = Field(default=0, ge=0, description="public seed of the frozen factor")

    @model_validator(mode="after")
    def _whole_layers_are_trained(self) -> Self:
        if strange := [name for name in self.whole if name not in self.targets]:
            raise ValueError(f"`adapter.whole` names {', '.join(strange)}, which `adapter.targets` does not; add it there too")
        if self.whole and self.factors is Factors.HEAD:
            raise ValueError('`adapter.whole` with `adapter.factors = "head"` would train nothing of those layers; leave it out')
        return self


class PrivacyConfig(Frozen):
    engine: Engine = Engine.FAST
    epsilon: float = Field(default=8.0, gt=0, le=10, description="total for one unit over all stages of the study")
    delta: float = Field(default=1e-6, gt=0, le=1e-4)
    unit: Literal[Unit.PATIENT, Unit.RECORD, Unit.SITE] = Field(default=Unit.PATIENT, description="unit of the SFT stage")
    preference_unit: Literal[Unit.PATIENT, Unit.PAIR, Unit.ANNOTATOR, Unit.SITE] = Field(
        default=Unit.PATIENT, description="unit of the reward stage"
    )
    sampling_rate: float = Field(default=0.1, gt=0, le=1, description="q, the same public figure at every site")
    clip_norm: float = Field(default=1.0, ge=1e-6, le=1e6, description="C, the L2 bound on one unit's gradient")
    rows_per_unit: int = Field(default=2, ge=1, le=64, description="k: at most this many rows of a unit, drawn at random each step")
    noise_multiplier: float | None = Field(
        default=None, ge=SMALLEST_NOISE, le=LARGEST_NOISE, description="σ; None means: calibrate to epsilon over all stages"
    )
    placement: Placement = Placement.SITE
    tolerated_colluders: int = Field(default=0, ge=0, description="c of placement `sum`: sites assumed to reveal their own noise")


class Aggregation(StrEnum):
    """How updates become one: their weighted mean, or an estimator that a few poisoned sites cannot move at will."""

    MEAN = "mean"
    TRIMMED_MEAN = "trimmed-mean"
    KRUM = "krum"


class SecureConfig(Frozen):
    """How the updates travel and are put together. `masked` shows the coordinator sums alone; `plain` shows it each site's (noised) update."""

    exchange: Literal["masked", "plain"] = "masked"
    group_size: int = Field(
        default=64, ge=MINIMUM_SITES, le=256, description="at most so many sites are masked together; more are dealt into groups"
    )
    aggregation: Aggregation = Field(default=Aggregation.MEAN, description="other than `mean` only with `plain` and placement `site`")
    suspected_sites: int = Field(default=1, ge=1, le=100, description="f of a robust aggregation: it takes 2f + 3 sites")
    drop_groups: bool = Field(
        default=False, description="SFT: leave out a group whose step makes public examples markedly less likely; takes three groups"
    )


class TrainingConfig(Frozen):
    """One federated stage: `rounds` rounds of `local_steps` private steps at each site, aggregated and applied by a server optimizer."""

    rounds: int = Field(default=8, ge=1, le=10_000)
    local_steps: int = Field(default=1, ge=1, le=1000)
    local_learning_rate: float = Field(
        default=1.0, gt=0, description="SGD at the site; with one local step it only scales the pseudo-gradient"
    )
    server_optimizer: Literal["adam", "sgd"] = "adam"
    server_learning_rate: float = Field(default=2e-3, gt=0)
    server_momentum: float = Field(default=0.9, ge=0, lt=1)
    warmup_rounds: int = Field(default=0, ge=0)
    min_survivors: int = Field(default=MINIMUM_SITES, ge=1)
    round_timeout_seconds: float = Field(default=600.0, gt=0)
    microbatch_tokens: int = Field(default=2048, ge=64)
    adapter: AdapterConfig = AdapterConfig()


class PretrainingConfig(Frozen):
    """Preference-model pretraining at the coordinator, on public pairs alone: it spends no ε."""

    pairs: int = Field(default=0, ge=0, description="public pairs to train on; 0 switches it off")
    pairs_per_step: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0)
    head_learning_rate: float = Field(default=2e-3, gt=0)
    sampled_share: float = Field(
        default=0.0, ge=0, le=1, description="share of the pairs whose worse answer is replaced by what the SFT model wrote to that prompt"
    )


class RewardConfig(TrainingConfig):
    rounds: int = Field(default=10, ge=1, le=10_000)
    members: int = Field(default=2, ge=1, le=16, description="disjoint cohorts of sites; each trains one member of the ensemble")
    centring: float = Field(default=0.01, ge=0, description="weight of the mean squared score, which keeps scores near 0")
    question_likelihood: bool = Field(
        default=False, description="adds the bare base's likelihood of the question given the answer as a member of the ensemble"
    )
    constitution: tuple[str, ...] = Field(
        default=(),
        description='principles such as "is safer for the patient"; the SFT model judges public pairs by them, and a member of its own learns it',
    )
    head_scale: float = Field(default=1.0, gt=0, description="multiplies the head's gradient before clipping: the head's share of the norm")
    tie_margin: float = Field(
        default=0.0, ge=0, le=5, description="η of Rao and Kupper's model of ties, in units of the score; 0 leaves ties out"
    )
    aspects: tuple[Aspect, ...] = Field(
        default=("overall",), min_length=1, description="what the members learn, in turn: member m learns aspect m modulo their number"
    )
    adapter: AdapterConfig = AdapterConfig(rank=4, alpha=8.0, last_layers=8)
    pretraining: PretrainingConfig = PretrainingConfig()

    def aspect(self, member: int | None) -> "Aspect":
        """What reward member `member` learns; None stands for the only one."""
        return self.aspects[(member or 0) % len(self.aspects)]


class RuleConfig(Frozen):
    """A rule that clinicians write: a penalty for answers that lack all of `must`, or hold one of `must_not`.

    A phrase is words, read without regard to case; `#` stands for any number, `*` for any one word: "see a * doctor", "# mg".
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    must: tuple[str, ...] = Field(default=(), description="one of these phrases at least")
    must_not: tuple[str, ...] = Field(default=(), description="none of these phrases")
    when: tuple[str, ...] = Field(default=(), description="only for prompts with one of these phrases; empty means all")
    weight: float = Field(default=1.0, gt=0, le=100)

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if bool(self.must) == bool(self.must_not):
            raise ValueError(f"rule `{self.name}` needs `must` or `must_not`, and not both")
        if not all(phrase.split() for phrase in (*self.must, *self.must_not, *self.when)):
            raise ValueError(f"rule `{self.name}` has an empty phrase")
        return self


class WatchConfig(Frozen):
    """Judges that the policy is not trained on, scored on the side. Their unit is the deviation over the SFT model's answers."""

    judges: int = Field(default=0, ge=0, le=8, description="judge adapters trained on public pairs of their own; 0 switches the watch off")
    pairs: int = Field(default=400, ge=8, description="public pairs for each judge")
    window: int = Field(default=4, ge=1, description="steps over which judge and reward are averaged")
    fall: float = Field(default=0.4, gt=0, description="deviations by which the judge may fall while the reward rises")


class PPOConfig(Frozen):
    steps: int = Field(default=14, ge=1)
    prompts_per_step: int = Field(default=16, ge=1)
    answers_per_prompt: int = Field(default=1, ge=1, le=64)
    max_new_tokens: int = Field(default=32, ge=4)
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop_tokens: tuple[str, ...] = Field(default=(), description="texts of one token each that end an answer, beside the end of turn")
    epochs: int = Field(default=2, ge=1)
    minibatch: int = Field(default=16, ge=1)
    microbatch_tokens: int = Field(default=2048, ge=64)
    learning_rate: float = Field(default=5e-4, gt=0)
    value_learning_rate: float = Field(default=2e-3, gt=0)
    value_trunk: Literal["shared", "own"] = "shared"
    clip_ratio: float = Field(default=0.2, gt=0)
    clip_value: float = Field(default=0.2, gt=0)
    value_coefficient: float = Field(default=0.1, ge=0)
    entropy_coefficient: float = Field(default=0.0, ge=0)
    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    kl_estimator: Literal["k1", "k3"] = "k1"
    kl_coefficient: float = Field(default=0.05, ge=0, description="β at the start; the controller never goes below it")
    kl_target: float = Field(default=6.0, gt=0, description="nats a sequence")
    kl_horizon: float = Field(default=16.0, gt=0, description="sequences over which the controller reacts")
    kl_budget: float = Field(default=10.0, gt=0, description="nats a sequence; the run stops where KL and its standard error are above it")
    reward_clip: float = Field(default=4.0, gt=0)
    shaping: Literal["clip", "sigmoid"] = Field(
        default="clip", description="of the ensemble's reward: clipped, or σ(reward − reward of an SFT answer to the same prompt)"
    )
    running_normalisation: bool = Field(default=False, description="divide the ensemble's reward by its running deviation, centred")
    combine: Literal["mean", "worst"] = Field(default="mean", description="of the ensemble: mean − λ·variance, or the worst member")
    member_weights: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(), description="of the members in mean and variance, such as the sites behind each; empty means equal"
    )
    variance_penalty: float = Field(default=0.5, ge=0, description="λ of mean − λ·variance over the ensemble")
    missing_eos_penalty: float = Field(default=0.5, ge=0)
    length_penalty: float = Field(
        default=0.0, ge=0, description="per token more than a quarter longer or shorter than the SFT model's mean answer"
    )
    repetition_penalty: float = Field(default=0.0, ge=0, description="times the share of an answer's word triples that came before in it")
    rules: tuple[RuleConfig, ...] = Field(default=(), description="[[ppo.rules]]: penalties that clinicians write")
    watch: WatchConfig = WatchConfig()
    ptx_coefficient: float = Field(default=0.0, ge=0, description="weight of the SFT loss on public examples")
    max_grad_norm: float = Field(default=1.0, gt=0)
    value_adapter: AdapterConfig = Field(
        default=AdapterConfig(rank=8, targets=("q_proj", "k_proj", "v_proj", "o_proj"), factors=Factors.LORA),
        description="of the value function when it has a trunk of its own; the policy has the SFT adapter's layers and rank",
    )


class GatesConfig(Frozen):
    """Thresholds of release, fixed before the test split is read. A policy is released only when each one holds."""

    reward_accuracy: float = Field(default=0.75, ge=0, le=1)
    beat_baselines: bool = True
    sft_loss_improves: bool = True
    win_rate_above: float = Field(default=0.5, ge=0, lt=1, description="lower end of the 95 % interval must lie above it")
    kl_budget: float = Field(default=10.0, gt=0)
    leaks: int = Field(default=0, ge=0, description="planted identifiers and canaries found in anything that left a site")
    group_gap: float | None = Field(
        default=None, gt=0, description="largest difference of the judge's score between people who differ in one sentence; None: no gate"
    )
    harm_declined: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of harmful requests in which the reward must prefer the answer that declines; None: no gate",
    )


class EvaluationConfig(Frozen):
    prompts: int = Field(default=96, ge=1)
    reward_pairs: int = Field(default=160, ge=1)
    sft_examples: int = Field(default=64, ge=1)
    max_new_tokens: int = Field(default=40, ge=4)
    temperature: float = Field(default=0.7, ge=0)
    bootstrap: int = Field(default=2000, ge=100)
    contrast_prompts: int = Field(
        default=24, ge=0, description="held-out prompts asked by people of different groups; 0 leaves that and the harmful requests out"
    )
    attack_examples: int = Field(
        default=64, ge=0, description="training examples, and as many others, by which a simulation attacks its models; 0 leaves that out"
    )
    best_of: int = Field(default=0, ge=0, le=64, description="SFT answers a prompt for best-of-n, the yardstick of PPO; 0 leaves it out")
    hacking_steps: int = Field(
        default=0,
        ge=0,
        description="PPO steps against a flawed reward, with and without protection; 0 leaves it out. Needs `ppo.watch.judges`",
    )
    gates: GatesConfig = GatesConfig()


class SimulationConfig(Frozen):
    """The hospitals of a simulation. `declared_units` is N_s: declared before the study, never counted from the data."""

    source: Literal["synthetic", "public"] = "synthetic"
    hospitals: int = Field(default=8, ge=1, le=10_000)
    patients: int = Field(default=90, ge=1, description="patients of each synthetic hospital")
    declared_units: int = Field(default=90, ge=1, description="N_s of a site for the SFT stage; L_s = q·N_s")
    declared_preference_units: int = Field(default=90, ge=1, description="N_s of a site for the reward stage")
    pairs: int = Field(default=90, ge=0, description="labelled pairs of each hospital")
    label_noise: float = Field(default=0.1, ge=0, lt=0.5)
    on_policy_share: float = Field(default=0.5, ge=0, le=1)
    workers: int = Field(default=2, ge=1)
    dropouts: Literal["none", "one-per-cohort"] = Field(default="none", description="faults injected into the reward stage")
    canaries: int = Field(default=1, ge=0, description="planted secrets for each hospital")


class StudyConfig(Frozen):
    """Everything a study decides. `digest` binds it into every message."""

    study_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "study"
    seed: int = Field(
        default=0, ge=0, description="of the simulation and of public draws; private noise never comes from it outside a simulation"
    )
    model: ModelConfig = ModelConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    secure: SecureConfig = SecureConfig()
    sft: TrainingConfig = TrainingConfig()
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = PPOConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    simulation: SimulationConfig = SimulationConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sites, members = self.simulation.hospitals, self.reward.members
        if sites < MINIMUM_SITES:
            raise ValueError(
                f"`simulation.hospitals` is {sites}; a federation needs at least {MINIMUM_SITES}, or the sum reveals one site's update"
            )
        if sites // members < MINIMUM_SITES:
            raise ValueError(
                f"`reward.members` is {members}: {sites} sites make cohorts of {sites // members}, fewer than {MINIMUM_SITES}; lower it to {sites // MINIMUM_SITES}"
            )
        in_ensemble = members + self.reward.question_likelihood + bool(self.reward.constitution)
        if self.reward.constitution and not self.reward.pretraining.pairs:
            raise ValueError("`reward.constitution` judges the public pairs of pretraining; set `reward.pretraining.pairs` above 0")
        if in_ensemble == 1 and self.ppo.variance_penalty > 0:
            raise ValueError(
                "`ppo.variance_penalty` is above 0 with one reward member, whose variance is always 0; use at least two members or set it to 0"
            )
        if self.ppo.member_weights and len(self.ppo.member_weights) != in_ensemble:
            raise ValueError(f"`ppo.member_weights` names {len(self.ppo.member_weights)} weights for {in_ensemble} reward members")
        if self.ppo.combine == "worst" and self.ppo.variance_penalty > 0:
            raise ValueError('`ppo.combine = "worst"` takes no variance into account; set `ppo.variance_penalty` to 0')
        if self.evaluation.hacking_steps and not self.ppo.watch.judges:
            raise ValueError("`evaluation.hacking_steps` needs judges that the reward does not know; set `ppo.watch.judges` to 1 or more")
        if len({rule.name for rule in self.ppo.rules}) < len(self.ppo.rules):
            raise ValueError("two of `ppo.rules` have the same name")
        absent = 1 if self.simulation.dropouts == "one-per-cohort" else 0
        for name, survivors, present in (
            ("sft", self.sft.min_survivors, sites),
            ("reward", self.reward.min_survivors, sites // members - absent),
        ):
            if survivors < MINIMUM_SITES:
                raise ValueError(f"`{name}.min_survivors` is {survivors}; at least {MINIMUM_SITES} sites must survive a round")
            if survivors > present:
                raise ValueError(
                    f"`{name}.min_survivors` is {survivors}, but only {present} sites can answer a round of that stage; lower it"
                )
        return self

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if self.sft.adapter.factors is Factors.HEAD:
            raise ValueError('`sft.adapter.factors = "head"` leaves nothing to train: the SFT stage has no reward head; use "ffa"')
        if self.reward.adapter.factors is Factors.HEAD and not self.reward.pretraining.pairs:
            raise ValueError(
                '`reward.adapter.factors = "head"` trains the head alone, and the layers below it learn from public pairs only: '
                "set `reward.pretraining.pairs` above 0"
            )
        if self.sft.adapter.reads == "question":
            raise ValueError('`sft.adapter.reads = "question"` says how a reward is read, and the SFT stage has none; leave it out')
        if self.reward.adapter.reads == "question" and not self.reward.pretraining.pairs:
            raise ValueError('`reward.adapter.reads = "question"` starts from public pairs: set `reward.pretraining.pairs` above 0')
        return self

    @model_validator(mode="after")
    def _sums_are_safe(self) -> Self:
        secure, in_shares, sites = self.secure, self.privacy.placement is Placement.SUM, self.simulation.hospitals
        smallest = sites // self.reward.members
        if secure.aggregation is not Aggregation.MEAN:
            if secure.exchange != "plain" or in_shares:
                raise ValueError(
                    f'`secure.aggregation = "{secure.aggregation}"` looks at every site\'s update: it needs `secure.exchange = "plain"` '
                    'and `privacy.placement = "site"`'
                )
            if smallest < 2 * secure.suspected_sites + 3:
                raise ValueError(
                    f"`{secure.aggregation}` against {secure.suspected_sites} poisoned sites takes {2 * secure.suspected_sites + 3}, and the smallest "
                    f"cohort has {smallest}: lower `secure.suspected_sites` or `reward.members`"
                )
        groups = min(-(-sites // secure.group_size), sites // MINIMUM_SITES) if secure.exchange == "masked" else 1
        if in_shares and groups > 1:
            raise ValueError(
                f'`privacy.placement = "sum"` sizes the noise for one sum over all sites, and `secure.group_size` = {secure.group_size} deals '
                f"{sites} of them into {groups}; raise it"
            )
        if secure.drop_groups and groups < 3:
            raise ValueError(
                f"`secure.drop_groups` compares three masked groups at least, and {sites} sites make {groups}; lower `secure.group_size`"
            )
        return self

    @model_validator(mode="after")
    def _noise_fits(self) -> Self:
        for name in Stage:
            stage, by_site = self.stage(name), self.unit(name) is Unit.SITE
            if self.privacy.placement is Placement.SUM and stage.local_steps > 1 and not by_site:
                raise ValueError(
                    '`privacy.placement = "sum"` needs `local_steps = 1`: noise shares only add up to σ within one step (with the unit `site` a '
                    "round is one release, and may have several)"
                )
            if by_site and self.private and self.privacy.placement is not Placement.SUM:
                raise ValueError(
                    f'the unit `site` in the stage `{name}` needs `privacy.placement = "sum"`: with its whole noise on its one unit, an update would be nothing but noise'
                )
            if self.private and self.privacy.tolerated_colluders >= stage.min_survivors:
                raise ValueError(
                    f"`privacy.tolerated_colluders` is {self.privacy.tolerated_colluders} and a round of the stage `{name}` may close with {stage.min_survivors} survivors: "
                    "nobody's noise would be left; lower the one or raise `min_survivors`"
                )
        return self

    @property
    def private(self) -> bool:
        return self.privacy.engine is not Engine.NONE

    def stage(self, stage: Stage) -> TrainingConfig:
        return self.sft if stage is Stage.SFT else self.reward

    def unit(self, stage: Stage) -> Unit:
        return self.privacy.unit if stage is Stage.SFT else self.privacy.preference_unit

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces. The same study always gives the same bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "StudyConfig":
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(explain("the study in the message", error, cls)) from None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study from TOML; `overrides` are "section.key=value" with a TOML value. Raises ConfigError naming file and key."""
    tree = read_toml(path, "`configs/` holds examples")
    for override in overrides:
        _apply_override(tree, override)
    return validated(f"{path} with {', '.join(overrides)}" if overrides else str(path), tree, StudyConfig)


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, raw = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"override {override!r} is not of the form section.key=value")
    try:
        value = tomllib.loads(f"value = {raw.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()  # a bare word is a string: --set model.base=tiny
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"override {override!r}: `{part}` is a value, not a section")
    tree[parts[-1]] = value
