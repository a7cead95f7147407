"""The plots of the agreement page, as SVG in the page's own colours. Every figure also stands as a number beside its mark.

Protects against: markup in a label (every word is escaped); a plot that only colour explains.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from client.feedback.agreement import Estimate
from client.feedback.report import Agreement, Figures

Words = Callable[..., str]
WIDTH, ROW, EDGE = 360, 40, 10
"""In units of the drawing, which is as wide as a telephone: what can be read there can be read anywhere."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a plot: a value with the ends of its interval, and what is written at its right."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    note: str
    stands_out: bool = False


def dots(title: str, lines: Sequence[Line], *, low: float, high: float, ticks: Sequence[float], form: str = "{:g}") -> Markup:
    """Dots with their intervals on one scale, a row each."""
    height = ROW * len(lines) + 28

    def x(value: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * (min(max(value, low), high) - low) / (high - low)

    parts = []
    for number, line in enumerate(lines):
        top, y = ROW * number + 14, ROW * number + 28
        parts += [_text(0, top, line.label), _text(WIDTH, top, line.note, "soft", "end")]
        parts += [_tag("line", x1=EDGE, x2=WIDTH - EDGE, y1=y, y2=y, class_="grid")]
        parts += [_tag("line", x1=x(tick), x2=x(tick), y1=y - 4, y2=y + 4, class_="grid") for tick in ticks]
        if line.value is None:
            continue
        if line.low is not None and line.high is not None:
            parts.append(_tag("line", x1=x(line.low), x2=x(line.high), y1=y, y2=y, class_="reach"))
        parts.append(_tag("circle", cx=x(line.value), cy=y, r=6, class_="mark out" if line.stands_out else "mark"))
    parts += [_text(x(tick), height - 6, form.format(tick), "soft", "middle") for tick in ticks]
    spoken = "; ".join(f"{line.label}: {line.note}" for line in lines)
    return _svg(height, f"{title}. {spoken}", parts)


def bar(title: str, shares: Sequence[tuple[str, int]]) -> Markup:
    """One bar in parts that add up, and a legend with the numbers."""
    total = sum(number for _, number in shares) or 1
    parts, at = [], 0.0
    for place, (_, number) in enumerate(shares):
        width = WIDTH * number / total
        if number:
            parts.append(_tag("rect", x=at, y=4, width=max(width - 2, 1), height=22, rx=4, class_=f"s{place}"))
        at += width
    for place, (label, number) in enumerate(shares):
        left, top = WIDTH / 2 * (place % 2), 40 + 22 * (place // 2)
        parts.append(_tag("rect", x=left, y=top, width=11, height=11, rx=3, class_=f"s{place}"))
        parts.append(_text(left + 18, top + 10, f"{number} {label}"))
    height = 40 + 22 * ((len(shares) + 1) // 2)
    return _svg(height, f"{title}. " + ", ".join(f"{number} {label}" for label, number in shares), parts)


def agreement_plots(found: Agreement, t: Words, names: Mapping[str, str]) -> dict[str, Markup]:
    """Every plot of the page by its name; one without data is not there. `names` says how annotators are called."""
    plots = {"states": bar(t("states"), [(t(f"state_{state}"), number) for state, number in found.states.items()])}
    if found.overall.percent.value is not None:
        plots["overall"] = _coefficients(t("overall"), _of(found.overall, t))
    groups: dict[str, Mapping[str, Estimate]] = {
        "by_task": {task: figures.alpha for task, figures in found.by_task.items()},
        "by_annotator": {names.get(code, code): figures.alpha for code, figures in found.by_annotator.items()},
        "by_tag": {t(f"tag_{tag}"): estimate for tag, estimate in found.by_tag.items()},
        "by_scale": {t(f"scale_{scale}"): estimate for scale, estimate in found.by_scale.items()},
    }
    for name, group in groups.items():
        shown = {label: estimate for label, estimate in group.items() if estimate.value is not None}
        if shown and found.overall.percent.value is not None:
            plots[name] = _coefficients(t(name), shown)
    biased = [
        Line(names.get(code, code), p.share, p.low, p.high, f"{p.first} / {p.choices}" + _mark(p.stands_out, t), p.stands_out)
        for code, p in found.position.items()
        if p.share is not None
    ]
    if biased:
        plots["position"] = dots(t("position"), biased, low=0, high=1, ticks=(0, 0.25, 0.5, 0.75, 1))
    paced = [
        Line(names.get(code, code), s.median_seconds, None, None, f"{s.median_seconds:.0f} s" + _mark(s.stands_out, t), s.stands_out)
        for code, s in found.speed.items()
        if s.median_seconds is not None
    ]
    if paced:
        longest = max(10.0, *(line.value for line in paced if line.value is not None))
        plots["speed"] = dots(t("speed"), paced, low=0, high=longest, ticks=[longest * n / 4 for n in range(5)], form="{:.0f}")
    return plots


def _of(figures: Figures, t: Words) -> dict[str, Estimate]:
    return {t("percent"): figures.percent, t("fleiss"): figures.fleiss, t("alpha"): figures.alpha}


def _coefficients(title: str, group: Mapping[str, Estimate]) -> Markup:
    lines = [Line(f"{label} ({e.units})", e.value, e.low, e.high, _written(e)) for label, e in group.items()]
    lowest = min((e.low for e in group.values() if e.low is not None), default=0.0)
    low = -1.0 if lowest < -0.5 else -0.5 if lowest < 0 else 0.0
    ticks = {-1.0: (-1, -0.5, 0, 0.5, 1), -0.5: (-0.5, 0, 0.5, 1), 0.0: (0, 0.25, 0.5, 0.75, 1)}[low]
    return dots(title, lines, low=low, high=1, ticks=ticks)


def _written(e: Estimate) -> str:
    if e.value is None:
        return "–"
    return f"{e.value:.2f}" if e.low is None or e.high is None else f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"


def _mark(stands_out: bool, t: Words) -> str:
    return f" · {t('stands_out')}" if stands_out else ""


def _svg(height: float, spoken: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="plot" role="img" viewBox="0 0 {} {}" aria-label="{}">').format(WIDTH, height, spoken)
    return head + Markup("").join(parts) + Markup("</svg>")


def _text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(x, y, class_, anchor, words)


def _tag(name: str, **attributes: object) -> Markup:
    inside = Markup(" ").join(Markup('{}="{}"').format(key.rstrip("_"), _short(value)) for key, value in attributes.items())
    return Markup("<{} {}/>").format(name, inside)


def _short(value: object) -> Markup:
    return escape(f"{value:.1f}" if isinstance(value, float) else value)
