"""The tables of the page, and how its figures are written."""

from dataclasses import dataclass

from server.evaluate.summary import Interval, Summary


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, column heads, and rows of cells that are already text. `numeric` columns are set right-aligned."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


def tables(s: Summary) -> dict[str, Table]:
    """Every table of the page that stands under no picture, by the name that the page calls it."""
    return {
        "mechanisms": Table(
            "Every private step of the run",
            ("Stage", "Sites", "Steps", "σ", "q", "Clip C", "Expected units L", "Unit", "Noise added by"),
            tuple(
                (m.stage, str(len(m.sites)), str(m.steps), f"{m.noise_multiplier:.3f}", f"{m.sampling_rate:g}", f"{m.clip_norm:g}", f"{m.expected_units:g}",
                 m.unit, "each site in full" if m.placement == "site" else "shares of all sites")
                for m in s.privacy.mechanisms
            ),
            frozenset({1, 2, 3, 4, 5, 6}),
        ),
        "lineage": Table(
            "Every version in the registry and what it was made from",
            ("Version", "Made from", "SHA-256"),
            tuple((f"{v.line}/{v.number}", ", ".join(v.parents) or "the base model", v.digest[:16] + "…") for v in s.lineage),
        ),
        "best_of": Table(
            "Best of n answers of the SFT model, by the same reward: what can be had without training",
            ("n", "KL, at most (nats)", "Reward", "Judge"),
            tuple((str(b.n), number(b.kl), number(b.reward), number(b.judge, 3)) for b in (s.ppo.best_of if s.ppo else ())),
            frozenset({0, 1, 2, 3}),
        ),
        "hacking": Table(
            "PPO without KL penalty against a deliberately flawed reward model, on held-out questions; its own score and that of the watch's judges in deviations above the SFT model's answers",
            ("The flawed member loves", "Defence", "Its own score", "Judges of the watch", "Judge: SFT model", "Judge: policy", "KL (nats)", "Ended"),
            tuple(
                (h.flaw, "ensemble and watch" if h.protected else "none", number(h.flawed_after),
                 f"{number(h.judge_after)} [{number(h.judge_low)}, {number(h.judge_high)}]", number(h.worth_before, 3), number(h.worth_after, 3),
                 number(h.kl), ended(h.stopped, h.steps))
                for h in (s.ppo.hacking if s.ppo else ())
            ),
            frozenset({2, 3, 4, 5, 6}),
        ),
        "seeds": Table(
            "PPO again from other seeds with the same reward, on held-out questions; the rise of the reward in deviations of the SFT model's answers",
            ("Seed", "Rise of the reward", "KL (nats)", "Judge before", "Judge after", "Win rate", "Ended", "CPU seconds of PPO"),
            tuple(
                (str(r.seed), number(r.rise), number(r.kl), number(r.judge_before, 3), number(r.judge_after, 3),
                 f"{percent(r.win_rate)} [{percent(r.win_rate_low)}, {percent(r.win_rate_high)}]", ended(r.stopped, r.steps), number(r.cpu_seconds, 0))
                for r in (s.ppo.seeds if s.ppo else ())
            ),
            frozenset({0, 1, 2, 3, 4, 5, 7}),
        ),
        "contrasts": Table(
            "Difference between the two, first minus second, with 95% intervals",
            ("First", "Second", "Questions", "Judge: SFT model's answers", "Judge: policy's answers", "Reward of the same answer"),
            tuple(
                (c.first, c.second, str(c.judge_policy.n), difference(c.judge_sft), difference(c.judge_policy), difference(c.reward))
                for c in s.contrasts
            ),
            frozenset({2, 3, 4, 5}),
        ),
        "membership": Table(
            "Membership: how often the attack ranks a training example above another one (50% is chance), with 95% intervals",
            ("Model", "Area", "What no attack can pass at the study's ε and δ", "Examples"),
            tuple(
                (m.model, f"{percent(m.area.value)} [{percent(m.area.low)}, {percent(m.area.high)}]", f"{m.permitted:.2%}", str(m.area.n))
                for m in (s.attacks.membership if s.attacks else ())
            ),
            frozenset({1, 2, 3}),
        ),
        "exposure": Table(
            "Exposure of the planted secrets in bits, with 95% intervals",
            ("Model", "Exposure", "Chance", "All secrets known", "Secrets"),
            tuple(
                (e.model, f"{number(e.bits.value)} [{number(e.bits.low)}, {number(e.bits.high)}]", number(e.chance), number(e.most), str(e.bits.n))
                for e in (s.attacks.exposure if s.attacks else ())
            ),
            frozenset({1, 2, 3, 4}),
        ),
        "findings": Table(
            "Places in which something planted was found",
            ("Place", "Class", "Different values"),
            tuple((place, kind, str(n)) for place, kind, n in (s.leaks.findings if s.leaks else ())),
            frozenset({2}),
        ),
    }  # fmt: skip


def number(value: float | None, digits: int = 2) -> str:
    if value is None:
        return "not measured"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
    return text.replace("-", "−")


def percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1%}"


def difference(value: Interval) -> str:
    return f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]".replace("-", "−")


def interval(value: Interval) -> str:
    return f"{value.value:.3f} (95% interval {value.low:.3f} to {value.high:.3f}, n = {value.n})"


def ended(reason: str, step: int) -> str:
    return f"{reason.replace('_', ' ')}, step {step}"
