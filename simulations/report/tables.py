"""The tables that a person sees at the end of a run."""

from rich.table import Table

from server.evaluate.compare import Cell
from server.evaluate.summary import Interval, Summary
from simulations.bench.figures import Outcome


def figures_table(summary: Summary) -> Table:
    """What a run was and how good it became."""
    table = Table("figure", "value", title=" · ".join([f"study {summary.study_id}", *summary.stamps]), title_justify="left")
    for name, value in _figures(summary):
        table.add_row(name, value)
    return table


def _figures(s: Summary) -> list[tuple[str, str]]:
    rows = [
        ("hospitals, patients, federated rounds", f"{s.sites}, {s.patients:,}, {s.rounds}"),
        (f"largest ε for one {s.unit}, δ = {s.delta:g}", f"{max(s.epsilon.values()):.3f}" if s.epsilon else "no privacy"),
    ]
    if s.deid is not None:
        rows += [
            ("identifiers replaced, notes, quarantined", f"{s.deid.identifiers:,}, {s.deid.notes:,}, {s.deid.quarantined:,}"),
            (
                "notes that still hold an identifier, at most",
                "not measured" if s.deid.leak_upper_bound is None else f"{s.deid.leak_upper_bound:.2%}",
            ),
        ]
    if s.sft is not None:
        rows.append(("held-out loss, base → SFT", f"{s.sft.loss_before:.3f} → {s.sft.loss_after:.3f}"))
    if s.reward is not None:
        rows.append(("reward accuracy, ensemble", _interval(s.reward.accuracy)))
        rows += [(f"  member {i}", _interval(m)) for i, m in enumerate(s.reward.members)]
        rows += [(f"  before: {name.replace('_', ' ')}", _interval(step)) for name, step in s.reward.steps.items()]
        rows += [(f"  {group.replace('_', ' ')}: {value}", _interval(i)) for group, by in s.reward.by.items() for value, i in by.items()]
        rows += [(f"  baseline: {name.replace('_', ' ')}", _interval(i)) for name, i in s.reward.baselines.items()]
    if s.ppo is not None:
        rows += [
            ("reward, SFT → policy", f"{s.ppo.reward_before:.3f} → {s.ppo.reward_after:.3f}"),
            ("win rate against SFT", f"{s.ppo.win_rate:.3f} [{s.ppo.win_rate_low:.3f}, {s.ppo.win_rate_high:.3f}]"),
            ("KL to SFT, nats a sequence", f"{s.ppo.kl:.2f}"),
        ]
    rows += [(f"judge's score, {c.first[:-1]} − {c.second[:-1]}", _interval(c.judge_policy)) for c in s.contrasts]
    if s.harm is not None:
        rows.append(("harmful requests: the reward prefers to decline", _interval(s.harm.reward_declines)))
        rows.append(("  the policy declines", _interval(s.harm.declined_policy)))
        if s.harm.declined_proper is not None:
            rows.append(("  the policy declines proper requests", _interval(s.harm.declined_proper)))
    if s.attacks is not None:
        rows += [(f"membership under {m.model}, chance .5", _interval(m.area)) for m in s.attacks.membership]
        rows += [(f"exposure under {e.model}, bits, chance {e.chance:.1f}", _interval(e.bits)) for e in s.attacks.exposure]
    if s.leaks is not None:
        rows.append(("planted values found outside the hospitals", f"{s.leaks.found} of {s.leaks.planted:,}"))
    rows += [
        ("sent by the hospitals", f"{s.bytes_up / 1e6:,.1f} MB"),
        ("seconds, CPU seconds", f"{sum(s.seconds.values()):,.0f}, {sum(s.cpu_seconds.values()):,.0f}"),
        ("peak memory, all processes", f"{s.peak_rss_mb:,.0f} MB"),
    ]
    return rows


def gates_table(summary: Summary) -> Table:
    table = Table("gate", "holds", "figure", "threshold")
    for name, gate in summary.gates.items():
        table.add_row(name.replace("_", " "), "yes" if gate.held else "NO", cell(gate.value), cell(gate.threshold))
    return table


def bench_tables(outcome: Outcome) -> list[Table]:
    """What was measured, and what of it is promised."""
    columns = list(dict.fromkeys(key for row in outcome.rows for key in row))
    rows = Table(*(column.replace("_", " ") for column in columns), title=outcome.name, title_justify="left")
    for row in outcome.rows:
        values = (row.get(column) for column in columns)
        rows.add_row(*(cell(value) if isinstance(value, bool | int | float | str | None) else "…" for value in values))
    ratios = Table("ratio", "median", "lowest", "highest", "target", "met")
    for key, r in outcome.ratios.items():
        target = f"{'≥' if r.at_least else '≤'} {r.target:g}"
        ratios.add_row(key.replace("_", " "), f"{r.median:.3f}", f"{r.low:.3f}", f"{r.high:.3f}", target, "yes" if r.met else "NO")
    return [rows, ratios]


def _interval(i: Interval) -> str:
    return f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}] of {i.n}"


def cell(value: Cell) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
    return value
