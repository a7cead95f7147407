"""The figures of a run that could have been: the numbers of a small study, for tests of gates, summaries and pages."""

from server.evaluate.summary import (
    AttackFigures,
    BestOfFigures,
    ContrastFigures,
    DeidFigures,
    ExposureFigures,
    Figures,
    HackingFigures,
    HarmFigures,
    Interval,
    LeakFigures,
    MembershipFigures,
    PpoFigures,
    PrivacyFigures,
    RewardFigures,
    SeedFigures,
    SftFigures,
    StageMechanism,
    Version,
)

SITES = ("alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel")


def interval(value: float, half: float, n: int) -> Interval:
    return Interval(value=value, low=value - half, high=value + half, n=n)


def figures() -> Figures:
    mechanism = {"unit": "patient", "sampling_rate": 0.1, "clip_norm": 1.0, "expected_units": 9.0, "placement": "site"}
    return Figures(
        wardround="0.1.0",
        study_id="demo",
        seed=7,
        base="smollm2-135m-instruct",
        config_digest="3f" * 32,
        simulated=True,
        not_private=False,
        sites=8,
        patients=720,
        rounds=28,
        epsilon={site: 7.2 + i * 0.05 for i, site in enumerate(SITES)},
        delta=1e-6,
        unit="patient",
        reward_accuracy=0.84,
        ppo=PpoFigures(
            reward_before=-0.12, reward_after=0.93, kl=4.7, win_rate=0.68, win_rate_low=0.58, win_rate_high=0.76,
            judge_before=0.41, judge_after=0.57, judge="the rubric of the simulated clinicians", steps=14,
            best_of=(BestOfFigures(n=4, kl=0.64, reward=0.8, judge=0.49),),
            hacking=(
                HackingFigures(flaw="length", protected=False, stopped="finished", steps=12, kl=11.5, flawed_after=1.34, judge_after=-0.71,
                               judge_low=-1.1, judge_high=-0.3, worth_before=0.36, worth_after=0.35),
            ),
            seeds=(
                SeedFigures(seed=1, steps=9, stopped="kl_budget", cpu_seconds=118.0, kl=7.3, reward_before=0.1, reward_after=1.4, rise=1.35,
                            judge_before=0.41, judge_after=0.5, win_rate=0.74, win_rate_low=0.65, win_rate_high=0.82),
            ),
        ),
        deid=DeidFigures(
            notes=2310, identifiers=25_418, quarantined=9, leak_upper_bound=0.0021, reviewed=2301,
            by_class={"name": 9120, "date": 7804, "record_number": 2310, "phone": 1740, "address": 1688, "email": 902, "age_over_89": 61, "hospital": 1793},
        ),
        bytes_up=312_000_000,
        seconds={"hospitals": 88.1, "sft": 171.4, "candidates": 41.0, "labels": 2.2, "pretraining": 33.9, "reward": 120.3, "ppo": 190.7, "evaluation": 66.0},
        peak_rss_mb=2870.0,
        sft=SftFigures(loss_before=2.912, loss_after=2.514, improvement=interval(0.398, 0.061, 64)),
        reward=RewardFigures(
            accuracy=interval(0.84, 0.056, 160),
            members=(interval(0.80, 0.06, 160), interval(0.82, 0.06, 160)),
            by={
                "on_policy": {"yes": interval(0.78, 0.09, 80), "no": interval(0.90, 0.07, 80)},
                "fault": {"wrong_drug": interval(0.81, 0.11, 40), "no_safety_net": interval(0.92, 0.09, 40)},
            },
            baselines={"length": interval(0.55, 0.08, 160), "word_overlap": interval(0.52, 0.08, 160), "bag_of_words": interval(0.66, 0.07, 160)},
            calibration_error=0.061,
        ),
        privacy=PrivacyFigures(
            engine="fast", budget=8.0,
            mechanisms=(
                StageMechanism(stage="sft", sites=SITES, noise_multiplier=0.73, steps=8, **mechanism),
                StageMechanism(stage="reward-0", sites=SITES[:4], noise_multiplier=0.73, steps=10, **mechanism),
                StageMechanism(stage="reward-1", sites=SITES[4:], noise_multiplier=0.73, steps=10, **mechanism),
            ),
            by_stage={"sft": dict.fromkeys(SITES, 5.5), "reward": {s: 5.9 + i * 0.05 for i, s in enumerate(SITES)}},
            cross_checks={"prv": 7.56, "rdp": 8.9},
            several_sites={"2": 9.8, "3": 11.9},
        ),
        leaks=LeakFigures(planted=18_220, too_short=312, places=231, message_bytes=330_000_000, found=0),
        lineage=(
            Version(line="sft", number=1, digest="ab" * 32),
            Version(line="reward-public", number=1, digest="cd" * 32),
            Version(line="reward-0", number=1, digest="ef" * 32, parents=("sft/1", "reward-public/1")),
            Version(line="reward-1", number=1, digest="12" * 32, parents=("sft/1", "reward-public/1")),
            Version(line="policy", number=1, digest="34" * 32, parents=("sft/1", "reward-0/1", "reward-1/1")),
        ),
        attacks=AttackFigures(
            membership=(MembershipFigures(model="policy", area=interval(0.52, 0.09, 128), permitted=0.9997),),
            exposure=(ExposureFigures(model="policy", bits=interval(1.3, 0.8, 8), chance=1.4, most=7.0),),
        ),
        contrasts=(
            ContrastFigures(
                name="sex", first="I am a woman.", second="I am a man.",
                judge_sft=Interval(value=0.02, low=-0.03, high=0.07, n=24), judge_policy=Interval(value=-0.01, low=-0.05, high=0.03, n=24),
                reward=Interval(value=0.04, low=-0.01, high=0.09, n=24),
            ),
        ),
        harm=HarmFigures(
            reward_declines=Interval(value=0.83, low=0.61, high=0.94, n=18), declined_sft=Interval(value=0.11, low=0.03, high=0.33, n=18),
            declined_policy=Interval(value=0.17, low=0.06, high=0.39, n=18), declined_proper=Interval(value=0.06, low=0.01, high=0.26, n=18),
        ),
        not_checked=("Membership inference and extraction attacks were not run.",),
    )  # fmt: skip
