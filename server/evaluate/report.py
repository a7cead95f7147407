"""report.html: one self-contained page about a run, for a privacy officer, a clinician and an engineer at one table.

It is written from the run folder alone (summary.json, metrics.jsonl, config.toml), so `wardround report` can write it again
at any time. It asks nothing of the network: a content security policy in its head forbids it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from common.config import StudyConfig, load_study
from common.errors import StorageError
from common.storage import write_atomic
from server.evaluate import plots
from server.evaluate.gate import refusals
from server.evaluate.page_tables import Table, interval, number, percent, tables
from server.evaluate.summary import READABLE, Summary, load_summary, small

PAGE = Path(__file__).parent / "page"
REPORT, METRICS, CONFIG = "report.html", "metrics.jsonl", "config.toml"
HELD_OUT = "sft-held-out"
"""Stage of the metrics that hold the SFT adapter's `loss` on held-out public examples; step 0 is the bare base, step n after n rounds."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG, what it shows in one sentence (read aloud in its place), its caption, and the same figures as a table."""

    svg: Markup
    alt: str
    caption: str
    table: Table


def write_report(run: Path) -> Path:
    """Write RUN/report.html. Raises ConfigError when the run is not complete, StorageError when a file cannot be read or written."""
    page = render(load_summary(run), load_study(run / CONFIG), load_metrics(run), (run / CONFIG).read_text(encoding="utf-8"))
    path = run / REPORT
    write_atomic(path, page, mode=READABLE)
    return path


def load_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of RUN/metrics.jsonl; none when there is no such file. Raises StorageError naming a line that is not JSON."""
    path = run / METRICS
    if not path.exists():
        return []
    rows = []
    for place, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not {"stage", "step"} <= set(row):
            raise StorageError(f"{path}, line {place}: not a row of metrics; restore the file or remove that line")
        rows.append(row)
    return rows


def render(summary: Summary, config: StudyConfig, metrics: Sequence[Mapping[str, Any]], config_text: str) -> str:
    """The page as one string of HTML."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"number": number, "percent": percent, "interval": interval, "small": small}
    template = environment.get_template("report.html.j2")
    page = template.render(
        s=summary,
        config=config,
        config_text=config_text,
        css=Markup((PAGE / "report.css").read_text(encoding="utf-8")),  # noqa: S704  # our own file beside the template
        refusals=refusals(summary),
        pictures=_pictures(summary, config, metrics),
        tables=tables(summary),
        largest=max(summary.epsilon.items(), key=lambda kv: kv[1], default=None),
    )
    return page.strip() + "\n"


# -- pictures ----------------------------------------------------------------------------------------------------------


def _pictures(s: Summary, config: StudyConfig, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Picture]:
    gates = config.evaluation.gates
    found: dict[str, Picture] = {}

    def add(name: str, svg: str | None, alt: str, caption: str, table: Table) -> None:
        if svg is not None:
            found[name] = Picture(Markup(svg), alt, caption, table)  # noqa: S704  # matplotlib escapes its text

    losses = [(r["step"], r["loss"]) for r in metrics if r["stage"] == HELD_OUT]
    if losses:
        add(
            "loss",
            plots.losses_by_round([r for r, _ in losses], [loss for _, loss in losses]),
            f"Held-out loss by federated round: {losses[0][1]:.2f} at round {losses[0][0]}, {losses[-1][1]:.2f} at round {losses[-1][0]}.",
            "Loss on held-out examples after each federated round (lower is better).",
            Table(
                "Held-out loss by round", ("Round", "Nats a token"), tuple((str(r), f"{loss:.4f}") for r, loss in losses), frozenset({0, 1})
            ),
        )
    stages = tuple(s.privacy.by_stage)
    add(
        "epsilon",
        plots.epsilon_by_site(s.privacy, s.epsilon),
        f"ε by site: between {min(s.epsilon.values(), default=0):.2f} and {max(s.epsilon.values(), default=0):.2f}, with a budget of {s.privacy.budget:g}.",
        "What each hospital's training may reveal about one of its patients, at most: ε of each stage alone and of all stages together. Stages do not simply add up: the accountant composes them.",
        Table(
            "ε by site",
            ("Site", *(f"{stage} alone" for stage in stages), "Together", "Budget"),
            tuple(
                (site, *(number(s.privacy.by_stage[stage].get(site), 3) for stage in stages), f"{total:.3f}", f"{s.privacy.budget:g}")
                for site, total in sorted(s.epsilon.items())
            ),
            frozenset(range(1, len(stages) + 3)),
        ),
    )
    if s.reward is not None:
        r = s.reward
        rows = [("Ensemble", r.accuracy), *((f"Member {i}", m) for i, m in enumerate(r.members))]
        rows += [
            (f"{group.replace('_', ' ').capitalize()}: {value.replace('_', ' ')}", v)
            for group, by in r.by.items()
            for value, v in by.items()
        ]
        rows += [(f"Baseline: {name.replace('_', ' ')}", v) for name, v in r.baselines.items()]
        add(
            "accuracy",
            plots.reward_accuracy(r, gates.reward_accuracy),
            f"Reward accuracy: the ensemble ranks {r.accuracy.value:.0%} of held-out pairs right; the best shallow baseline {max((b.value for b in r.baselines.values()), default=0):.0%}.",
            "How often the better of two answers gets the higher score, with 95% intervals. Baselines know nothing of medicine: a reward model must beat them.",
            Table("Reward accuracy on held-out pairs", ("Who or what", "Right", "95% interval", "Pairs"), tuple(
                (name, percent(i.value), f"{percent(i.low)} to {percent(i.high)}", str(i.n)) for name, i in rows
            ), frozenset({1, 2, 3})),
        )  # fmt: skip
    if s.ppo is not None:
        steps = [r for r in metrics if r["stage"] == "ppo"]
        keys = [k for k, _, _ in plots.PPO_PANELS if any(k in r for r in steps)]
        add(
            "ppo",
            plots.ppo_by_step(steps, gates.kl_budget),
            f"PPO over {s.ppo.steps} steps: reward of held-out answers from {s.ppo.reward_before:.2f} to {s.ppo.reward_after:.2f}, KL {s.ppo.kl:.1f} nats at the end.",
            "What PPO did, step by step, on its own training prompts (all of them public).",
            Table("PPO by step", ("Step", *(k.capitalize() for k in keys)), tuple(
                (str(r["step"]), *(number(r.get(k), 3) for k in keys)) for r in steps
            ), frozenset(range(len(keys) + 1))),
        )  # fmt: skip
        add(
            "win",
            plots.win_rate(s.ppo, gates.win_rate_above),
            f"The judge prefers the policy's answer in {s.ppo.win_rate:.0%} of the prompts, 95% interval {s.ppo.win_rate_low:.0%} to {s.ppo.win_rate_high:.0%}.",
            "How often the judge scores the policy's answer above the SFT model's answer to the same unseen question; ties count half.",
            Table("Win rate", ("Policy over SFT", "95% interval"), (
                (percent(s.ppo.win_rate), f"{percent(s.ppo.win_rate_low)} to {percent(s.ppo.win_rate_high)}"),
            ), frozenset({0, 1})),
        )  # fmt: skip
    if s.deid is not None:
        classes = [(plots.words(k), v) for k, v in sorted(s.deid.by_class.items(), key=lambda kv: -kv[1])]
        add(
            "deid",
            plots.deid_by_class(s.deid),
            f"Identifiers replaced by class: {', '.join(f'{words} {v:,}' for words, v in classes[:4])} and {max(0, len(classes) - 4)} more classes.",
            "Identifiers that were found in the notes and replaced by invented ones, by class.",
            Table("Identifiers replaced", ("Class", "Count"), tuple((k, f"{v:,}") for k, v in classes), frozenset({1})),
        )
    add(
        "seconds",
        plots.seconds_by_stage(s.seconds),
        f"Seconds by stage: {', '.join(f'{k} {v:.0f}' for k, v in s.seconds.items())}.",
        "Wall-clock time of each stage on this machine.",
        Table("Seconds by stage", ("Stage", "Seconds"), tuple((k, f"{v:.1f}") for k, v in s.seconds.items()), frozenset({1})),
    )
    return found
