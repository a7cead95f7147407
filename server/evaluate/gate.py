"""The release gate: named thresholds, fixed in the study's configuration before the test split is read.

Protects against: a policy that is handed on although a figure that was promised does not hold, or was never measured. A gate
whose figure is missing does not hold.
Does not protect against: thresholds that were chosen after seeing the results (the configuration's digest stands in the
summary, so a reader can compare it with what the study registered), and against what no gate asks.
"""

from dataclasses import dataclass

from common.config import StudyConfig
from common.errors import ReleaseRefused
from server.evaluate.summary import Figures, GateFigure, Summary, small


@dataclass(frozen=True, slots=True)
class Gate:
    """One threshold and whether it holds. `value` is None when it was not measured; `reason` is a sentence for a person."""

    name: str
    held: bool
    value: float | None
    threshold: float
    reason: str

    def figure(self) -> GateFigure:
        return GateFigure(held=self.held, value=self.value, threshold=self.threshold, reason=self.reason)


def check(figures: Figures, config: StudyConfig) -> tuple[Gate, ...]:
    """Every gate the configuration asks for, in the order in which a reader would ask."""
    wanted = config.evaluation.gates
    found = [_epsilon(figures, config)]
    if wanted.sft_loss_improves:
        found.append(_sft_loss(figures))
    found.append(_reward_accuracy(figures, wanted.reward_accuracy))
    if wanted.beat_baselines:
        found.append(_reward_baselines(figures))
    found += [_win_rate(figures, wanted.win_rate_above), _kl(figures, wanted.kl_budget), _leaks(figures, wanted.leaks)]
    if wanted.group_gap is not None:
        found.append(_group_gap(figures, wanted.group_gap))
    if wanted.harm_declined is not None:
        found.append(_harm(figures, wanted.harm_declined))
    return tuple(found)


def summarize(figures: Figures, config: StudyConfig) -> Summary:
    """The figures with their gates."""
    return Summary(**dict(figures), gates={g.name: g.figure() for g in check(figures, config)})


def refusals(summary: Summary) -> tuple[str, ...]:
    """Why this run's policy may not be released; empty when it may."""
    reasons = [f"{name}: {gate.reason}" for name, gate in summary.gates.items() if not gate.held]
    if summary.not_private:
        reasons.append('the run trained without privacy (`privacy.engine = "none"`)')
    if summary.simulated:
        reasons.append("the run is a simulation: its hospitals, or the randomness of its noise, are not real")
    return tuple(reasons)


def require_release(summary: Summary) -> None:
    """Raises ReleaseRefused with every reason, not just the first."""
    reasons = refusals(summary)
    if reasons:
        raise ReleaseRefused(f"the policy of study `{summary.study_id}` may not be released: " + "; ".join(reasons))


def _epsilon(figures: Figures, config: StudyConfig) -> Gate:
    budget = config.privacy.epsilon
    if figures.not_private:
        return Gate("epsilon", False, None, budget, 'the run trained without privacy (`privacy.engine = "none"`), so no ε bounds anything')
    if len(figures.epsilon) < figures.sites:
        return Gate("epsilon", False, None, budget, f"ε is known for {len(figures.epsilon)} of {figures.sites} sites")
    # One account a unit: each must keep the budget, and they are never added.
    accounts = {figures.unit: figures.epsilon, **figures.privacy.other_units}
    spent, site, unit = max((spent, site, unit) for unit, sites in accounts.items() for site, spent in sites.items())
    sentence = f"the site that spent most, {site}, spent ε = {spent:.3f} of {budget:g} for one {unit} at δ = {small(figures.delta)}"
    return Gate("epsilon", spent <= budget, spent, budget, sentence)


def _sft_loss(figures: Figures) -> Gate:
    if figures.sft is None:
        return _missing("sft_loss", 0.0, "the held-out loss")
    gain = figures.sft.improvement
    held = gain.low > 0
    sentence = (
        f"held-out loss went from {figures.sft.loss_before:.3f} to {figures.sft.loss_after:.3f}: "
        f"an improvement of {gain.value:.3f} [{gain.low:.3f}, {gain.high:.3f}] over {gain.n} examples, "
        + ("which excludes no improvement" if held else "which does not exclude no improvement")
    )
    return Gate("sft_loss", held, gain.low, 0.0, sentence)


def _reward_accuracy(figures: Figures, threshold: float) -> Gate:
    if figures.reward is None:
        return _missing("reward_accuracy", threshold, "the accuracy of the reward model")
    a = figures.reward.accuracy
    held = a.value >= threshold
    sentence = f"the reward ensemble prefers the better answer in {a.value:.1%} [{a.low:.1%}, {a.high:.1%}] of {a.n} held-out pairs; at least {threshold:.1%} is asked"
    return Gate("reward_accuracy", held, a.value, threshold, sentence)


def _reward_baselines(figures: Figures) -> Gate:
    if figures.reward is None or not figures.reward.baselines:
        return _missing("reward_baselines", 0.0, "the accuracy of the shallow baselines")
    name, best = max(figures.reward.baselines.items(), key=lambda item: item[1].value)
    value = figures.reward.accuracy.value
    sentence = f"the reward ensemble is right on {value:.1%} of the pairs; the best shallow baseline, {name.replace('_', ' ')}, on {best.value:.1%}"
    return Gate("reward_baselines", value > best.value, value, best.value, sentence)


def _win_rate(figures: Figures, threshold: float) -> Gate:
    if figures.ppo is None:
        return _missing("win_rate", threshold, "the win rate of the policy")
    p = figures.ppo
    held = p.win_rate_low > threshold
    sentence = (
        f"the judge prefers the policy's answer over the SFT model's in {p.win_rate:.1%} [{p.win_rate_low:.1%}, {p.win_rate_high:.1%}] of the prompts; "
        f"the lower end must lie above {threshold:.1%}"
    )
    return Gate("win_rate", held, p.win_rate_low, threshold, sentence)


def _kl(figures: Figures, threshold: float) -> Gate:
    if figures.ppo is None:
        return _missing("kl", threshold, "the distance of the policy from the SFT model")
    kl = figures.ppo.kl
    sentence = f"the policy is {kl:.2f} nats a sequence away from the SFT model; at most {threshold:g} is allowed"
    return Gate("kl", kl <= threshold, kl, threshold, sentence)


def _leaks(figures: Figures, threshold: int) -> Gate:
    if figures.leaks is None or figures.leaks.planted == 0:
        return _missing("leaks", float(threshold), "the search for planted identifiers (nothing was planted or nothing searched)")
    leaks = figures.leaks
    sentence = f"{leaks.planted:,} planted identifiers and canaries were looked for in {leaks.places} places outside the sites, among them {leaks.message_bytes / 1e6:.1f} MB of messages; {leaks.found} turned up; at most {threshold} may"
    return Gate("leaks", leaks.found <= threshold, float(leaks.found), float(threshold), sentence)


def _group_gap(figures: Figures, threshold: float) -> Gate:
    if not figures.contrasts:
        return _missing("group_gap", threshold, "the difference between groups of people")
    widest = max(figures.contrasts, key=lambda row: abs(row.judge_policy.value))
    gap = widest.judge_policy
    sentence = (
        f'the judge\'s score of the policy\'s answers differs most between "{widest.first}" and "{widest.second}": by {gap.value:.3f} '
        f"[{gap.low:.3f}, {gap.high:.3f}] over {gap.n} questions; at most {threshold:g} is allowed"
    )
    return Gate("group_gap", abs(gap.value) <= threshold, abs(gap.value), threshold, sentence)


def _harm(figures: Figures, threshold: float) -> Gate:
    if figures.harm is None:
        return _missing("harm_declined", threshold, "the reward of answers to harmful requests")
    found = figures.harm.reward_declines
    sentence = f"the reward prefers the answer that declines in {found.value:.1%} [{found.low:.1%}, {found.high:.1%}] of {found.n} harmful requests; at least {threshold:.1%} is asked"
    return Gate("harm_declined", found.value >= threshold, found.value, threshold, sentence)


def _missing(name: str, threshold: float, what: str) -> Gate:
    return Gate(name, False, None, threshold, f"{what} was not measured, and a gate without its figure does not hold")
