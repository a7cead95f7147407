"""The summary of a run whose hospitals are real, put together at the coordinator: from the run's own records, and public files of its desk.

The coordinator has no ledger, no note and no truth. ε of a site is what this study asked of it, every round counted in which the site
could have taken part; counts of identifiers stay at the sites, and the judges are those of the watch.

Protects against: a simulated run that passes for a real one (each federated line says, signed, which grid carried it); a figure that
nobody measured: its gate does not hold.
Does not protect against: a site that seeds its noise or spent ε elsewhere, which its own ledger knows; files of the desk on which a model
was trained; a planted value that the hospitals planted and did not name.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version as version_of

from common.adapters import Adapter
from common.config import Stage
from common.models import SharedBase
from common.progress import Progress
from common.storage import write_atomic
from server.align.experience import POLICY
from server.align.rewards import Ensemble
from server.align.stage import load_models, prepare
from server.evaluate.accounts import epsilon_by_site, privacy_figures
from server.evaluate.asked import asked_of_sites, own_lines
from server.evaluate.contrasts import evaluate_contrasts, limits
from server.evaluate.evaluation import JudgedPair, evaluate_policy, evaluate_reward, evaluate_sft
from server.evaluate.gate import summarize
from server.evaluate.harm import evaluate_harm
from server.evaluate.intervals import Estimate, wilson
from server.evaluate.leaks import LeakSearch, Planted
from server.evaluate.quality import Example
from server.evaluate.report import REPORT, write_report
from server.evaluate.summary import READABLE, SUMMARY, ContrastFigures, Figures, LeakFigures, PpoFigures, PrivacyFigures, Summary, Version
from server.public_texts import SitePair
from server.run_folder import RunFolder, federated_lines

NETWORK_GRID = "HttpGrid"
"""Flower's grid of a SuperLink; every other one is a simulation's."""
GENERATIONS = "generations.jsonl"
JUDGES = "judges from public pairs, on which the policy was not trained"
NOT_CHECKED = (
    "What else a hospital's ledger holds: ε here is what this study asked of each site.",
    "Attacks on the trained models (membership inference, extraction, gradient inversion) were not run.",
    "No clinician read the answers; the judges are models.",
)

Judge = Callable[[int, str], float]
"""Worth of an answer to the held-out prompt of this number."""


@dataclass(frozen=True, slots=True, repr=False)
class DeskTexts:
    """What the desk brings: pairs with the better answer named, held-out prompts and examples, and what the hospitals planted. Each may be empty."""

    pairs: Sequence[SitePair] = ()
    held_out: Sequence[str] = ()
    examples: Sequence[Example] = ()
    planted: Sequence[Planted] = ()

    def __repr__(self) -> str:
        return (
            f"DeskTexts({len(self.pairs)} pairs, {len(self.held_out)} prompts, {len(self.examples)} examples, {len(self.planted)} planted)"
        )


def summarize_run(run: RunFolder, base: SharedBase, prompts: Sequence[str], texts: DeskTexts, progress: Progress) -> Summary:
    """Measure what `texts` allow and write RUN/summary.json, RUN/report.html and RUN/generations.jsonl. `prompts` are those of PPO.

    Raises ModelUnavailable when a line of the study, or the policy, is not there.
    """
    began = time.monotonic()
    figures = _figures(run, base, prompts, texts, progress)
    search = LeakSearch(texts.planted)
    search.folder(run.path, skip=[run.path / SUMMARY, run.path / REPORT])
    search.text(SUMMARY, figures.model_dump_json())
    found = search.report()
    leaks = LeakFigures(
        planted=found.planted, too_short=found.too_short, places=found.places, message_bytes=0, found=found.found,
        findings=tuple((f.place, f.kind, f.count) for f in found.findings),
    )  # fmt: skip
    measured = {"leaks": leaks if texts.planted else None, "seconds": {"evaluation": time.monotonic() - began}, "peak_rss_mb": _peak_mb()}
    summary = summarize(figures.model_copy(update=measured), run.study)
    summary.write(run.path)
    write_report(run.path)
    return summary


def is_simulated(run: RunFolder) -> bool:
    """Whether any federated line came over something else than a network, or does not say over what."""
    return any(run.registry.latest(line).figures.get("grid") != NETWORK_GRID for line in federated_lines(run.study))


def _figures(run: RunFolder, base: SharedBase, prompts: Sequence[str], texts: DeskTexts, progress: Progress) -> Figures:
    study, registry = run.study, run.registry
    load_models(run, base)
    policy = registry.latest(POLICY)
    base.put(POLICY, Adapter.load(policy.folder))
    reward, watch = prepare(run, base, prompts, progress=progress)
    ensemble, stopped = reward.ensemble, str(policy.figures["stopped"])
    assert ensemble is not None
    lines = own_lines(run)
    accounts, enrolment = asked_of_sites(run) if study.private else {}, run.enrolment()
    assert enrolment is not None
    ppo: PpoFigures | None = None
    contrasts: tuple[ContrastFigures, ...] = ()
    of_people = texts.held_out[: study.evaluation.contrast_prompts]
    if texts.held_out and watch is not None:
        judge, steps = _judge(watch.judges, texts.held_out), int(str(policy.figures["steps"]))
        ppo = _policy(run, base, ensemble, judge, texts.held_out, steps, None if stopped == "finished" else stopped, progress)
        contrasts = evaluate_contrasts(base, ensemble, of_people, judge, study, progress) if of_people else ()
    judged = [JudgedPair(p.pair.prompt, p.pair.chosen, p.pair.rejected, {"site": p.site} if p.site else {}) for p in texts.pairs]
    found = evaluate_reward(ensemble, judged, shallow(judged), study, progress) if judged else None
    return Figures(
        wardround=version_of("wardround"),
        study_id=study.study_id,
        seed=study.seed,
        base=study.model.base,
        config_digest=study.digest,
        simulated=is_simulated(run),
        not_private=not study.private,
        sites=len(enrolment.declared),
        patients=sum(units.get(study.privacy.unit, 0) for units in enrolment.declared.values()),
        rounds=sum(int(str(line.figures["rounds"])) for line in lines),
        epsilon=epsilon_by_site(study, accounts),
        delta=study.privacy.delta,
        unit=study.privacy.unit.value,
        reward_accuracy=found.accuracy.value if found else None,
        ppo=ppo,
        contrasts=contrasts,
        harm=evaluate_harm(base, ensemble, study, progress) if study.evaluation.contrast_prompts else None,
        deid=None,
        bytes_up=sum(int(str(line.figures["bytes_up"])) for line in lines),
        seconds={},
        peak_rss_mb=0.0,
        sft=evaluate_sft(base, Stage.SFT.value, texts.examples, study, progress) if texts.examples else None,
        reward=found,
        privacy=privacy_figures(study, accounts) if study.private else PrivacyFigures(engine="none", budget=study.privacy.epsilon),
        leaks=None,
        lineage=tuple(Version(line=v.line, number=v.number, digest=v.digest, parents=v.parents) for v in registry.versions()),
        not_checked=(*NOT_CHECKED, limits(study)),
    )


def _judge(judges: Ensemble, held_out: Sequence[str]) -> Judge:
    return lambda index, text: float(judges.combined(judges.score([held_out[index]], [text]))[0])


def _policy(
    run: RunFolder, base: SharedBase, reward: Ensemble, judge: Judge, held_out: Sequence[str], steps: int, stopped: str | None, progress: Progress
) -> PpoFigures:  # fmt: skip
    found, generations = evaluate_policy(
        base, reward, held_out, judge, run.study, progress, judge_name=JUDGES, steps=steps, stopped=stopped
    )  # fmt: skip
    lines = "".join(json.dumps(asdict(generation), ensure_ascii=False) + "\n" for generation in generations)
    write_atomic(run.path / GENERATIONS, lines, mode=READABLE)
    return found


def shallow(pairs: Sequence[JudgedPair]) -> dict[str, Estimate]:
    """How often the longer answer is the better one, and the one that repeats more words of the prompt; ties count half."""

    def right(score: Callable[[str, str], int]) -> Estimate:
        margins = [score(p.prompt, p.better) - score(p.prompt, p.worse) for p in pairs]
        return wilson(sum(1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins), len(margins))

    return {"length": right(lambda _, answer: len(answer)), "word_overlap": right(_overlap)}


def _overlap(prompt: str, answer: str) -> int:
    said, asked = (set(re.findall(r"\w+", text.casefold())) for text in (answer, prompt))
    return len(said & asked)


def _peak_mb() -> float:
    """The peak of this process's resident memory; `ru_maxrss` is in kilobytes, on macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
