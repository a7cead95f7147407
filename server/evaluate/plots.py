"""The report's pictures as inline SVG: text stays text, colours are the page's own, so that dark mode and print work.

Each function takes figures and returns SVG, or None when there is nothing to draw. No picture tells anything by colour alone:
series differ in marker and carry their name.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from server.evaluate.summary import DeidFigures, Interval, PpoFigures, PrivacyFigures, RewardFigures

# Colours that occur nowhere else; the page replaces them by variables of its style sheet.
INK, MUTED, GRID, BLUE, ORANGE, TEAL, RED = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606", "#070707"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", BLUE: "blue", ORANGE: "orange", TEAL: "teal", RED: "red"}
_STYLE: Any = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID,
    "xtick.color": MUTED, "ytick.color": MUTED, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.titlelocation": "left", "legend.frameon": False,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "lines.linewidth": 1.8, "lines.markersize": 5,
}  # fmt: skip
WIDTH_INCHES = 4.9
PPO_PANELS = (
    ("reward", "reward", BLUE),
    ("kl", "KL to SFT (nats)", ORANGE),
    ("length", "answer length (tokens)", TEAL),
    ("disagreement", "members' disagreement", INK),
)
MOST_SITES = 24
"""A federation of hundreds is drawn by the sites that spent most; the table holds all of them."""


def losses_by_round(rounds: Sequence[int], losses: Sequence[float]) -> str | None:
    """Held-out SFT loss after each federated round; round 0 is the bare base."""
    if not losses:
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(2.5)
        axes.plot(rounds, losses, color=BLUE, marker="o")
        axes.set(xlabel="federated round", ylabel="nats a token")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        _ends(axes, rounds, losses)
        return _svg(figure, "loss")


def epsilon_by_site(privacy: PrivacyFigures, total: Mapping[str, float]) -> str | None:
    """ε of each stage alone and of all together at each site, against the study's budget."""
    if not total:
        return None
    sites = sorted(sorted(total, key=lambda s: -total[s])[:MOST_SITES])
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(1.25 + 0.24 * len(sites))
        rows = range(len(sites))
        for (stage, by_site), marker, colour in zip(privacy.by_stage.items(), "so^v", (TEAL, ORANGE, BLUE, MUTED), strict=False):
            shown = [(by_site[s], y) for y, s in enumerate(sites) if s in by_site]
            axes.plot([x for x, _ in shown], [y for _, y in shown], marker, color=colour, label=f"{stage} alone")
        axes.plot([total[s] for s in sites], rows, "D", color=INK, label="together")
        axes.axvline(privacy.budget, color=RED, linestyle="--", linewidth=1.2, label=f"budget {privacy.budget:g}")
        axes.set(xlabel="ε", xlim=(0, max(privacy.budget, *total.values()) * 1.08), ylim=(len(sites) - 0.4, -0.6))
        axes.set_yticks(list(rows), sites)
        _legend(figure, axes)
        return _svg(figure, "epsilon")


def reward_accuracy(reward: RewardFigures, threshold: float) -> str:
    """Accuracy with 95 % intervals: the ensemble, its members, parts of the test, and shallow baselines."""
    rows: list[tuple[str, Interval, str, str]] = [("ensemble", reward.accuracy, BLUE, "D")]
    rows += [(f"member {i}", m, BLUE, "o") for i, m in enumerate(reward.members)]
    if "on_policy" in reward.by:
        names = {"yes": "with a sampled answer", "no": "written answers only"}
        rows += [(names.get(k, k), v, TEAL, "s") for k, v in reward.by["on_policy"].items()]
    rows += [(f"{name.replace('_', ' ')} (baseline)", v, ORANGE, "^") for name, v in reward.baselines.items()]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(1.1 + 0.27 * len(rows))
        _dots(axes, rows)
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=":", label="chance")
        axes.axvline(threshold, color=RED, linewidth=1.2, linestyle="--", label=f"gate {threshold:.0%}")
        axes.set(xlim=(min(0.35, *(r[1].low for r in rows)), 1), xlabel="share of held-out pairs ranked right")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        _legend(figure, axes)
        return _svg(figure, "accuracy")


def ppo_by_step(rows: Sequence[Mapping[str, Any]], kl_budget: float) -> str | None:
    """Reward, KL, answer length and disagreement of the reward members at each step."""
    panels = [panel for panel in PPO_PANELS if any(_number(r.get(panel[0])) for r in rows)]
    if not panels:
        return None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 3.9 if len(panels) > 2 else 2.1), layout="constrained")
        grid = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False)
        for axes, (key, title, colour) in zip(grid.flat, panels, strict=False):
            shown = [(r["step"], r[key]) for r in rows if _number(r.get(key))]
            axes.plot([x for x, _ in shown], [y for _, y in shown], color=colour, marker="o", markersize=3)
            axes.set_title(title, color=INK)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            if key == "kl":
                axes.axhline(kl_budget, color=RED, linestyle="--", linewidth=1)
                axes.set_ylim(bottom=min(0.0, *(y for _, y in shown)))
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("step")
        return _svg(figure, "ppo")


def win_rate(ppo: PpoFigures, threshold: float) -> str:
    """Share of prompts on which the judge prefers the policy, with its interval, against a coin."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(1.35)
        _dots(axes, [("policy over SFT", Interval(value=ppo.win_rate, low=ppo.win_rate_low, high=ppo.win_rate_high, n=0), BLUE, "D")])
        axes.axvline(threshold, color=RED, linewidth=1.2, linestyle="--", label=f"must lie right of {threshold:.0%}")
        axes.set(xlim=(0, 1))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        _legend(figure, axes)
        return _svg(figure, "winrate")


def deid_by_class(deid: DeidFigures) -> str | None:
    """Identifiers replaced, by class."""
    return _bars({words(k): float(v) for k, v in deid.by_class.items()}, "identifiers replaced", "deid", "{:,.0f}")


ACRONYMS = frozenset({"MRN", "SSN", "IP", "ID", "URL", "ZIP"})


def words(label: str) -> str:
    """HEALTH_PLAN → health plan; acronyms stay."""
    return label if label in ACRONYMS else label.replace("_", " ").lower()


def seconds_by_stage(seconds: Mapping[str, float]) -> str | None:
    """Wall-clock seconds of each stage, in the order in which they ran."""
    return _bars(seconds, "seconds", "seconds", "{:,.0f}", ordered=False)


def _bars(values: Mapping[str, float], label: str, name: str, form: str, *, ordered: bool = True) -> str | None:
    if not values:
        return None
    items = sorted(values.items(), key=lambda kv: -kv[1]) if ordered else list(values.items())
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(0.75 + 0.26 * len(items))
        axes.barh([k for k, _ in items], [v for _, v in items], color=BLUE, height=0.62)
        for y, (_, v) in enumerate(items):
            axes.annotate(form.format(v), (v, y), xytext=(4, 0), textcoords="offset points", va="center", color=INK)
        axes.set(xlabel=label, xlim=(0, max(v for _, v in items) * 1.18 or 1), ylim=(len(items) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        return _svg(figure, name)


def _dots(axes: Axes, rows: Sequence[tuple[str, Interval, str, str]]) -> None:
    for y, (_, i, colour, marker) in enumerate(rows):
        axes.plot([i.low, i.high], [y, y], color=colour, linewidth=1.6)
        axes.plot([i.value], [y], marker, color=colour)
    axes.set_yticks(range(len(rows)), [r[0] for r in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _ends(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    for place in {0, len(ys) - 1}:
        axes.annotate(f"{ys[place]:.2f}", (xs[place], ys[place]), xytext=(0, 7), textcoords="offset points", ha="center", color=INK)
    axes.margins(y=0.2)


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=10, handlelength=1.6, columnspacing=1.2)


def _figure(height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    return figure, figure.subplots()


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element whose ids belong to `name` alone, without header, metadata or a word of another site."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(?::\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg).replace("xlink:href", "href")
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r" ?font-family: [^;\"]*;?", "", svg)  # the page's own font
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = re.sub(r'<svg width="[^"]*" height="[^"]*"|<svg height="[^"]*"', "<svg", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    for sentinel, variable in _VARIABLES.items():
        svg = svg.replace(sentinel, f"var(--{variable})")
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
