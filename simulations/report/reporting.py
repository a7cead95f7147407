"""From a finished run to its figures, gates, summary and page; the last thing done is the search for leaks in all of it."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client.hospital.site import Site
from common.progress import Progress
from common.storage import write_atomic
from server.evaluate.accounts import PrivateStep, epsilon_by_site, privacy_figures
from server.evaluate.attacks import limits as attack_limits
from server.evaluate.contrasts import limits
from server.evaluate.gate import summarize
from server.evaluate.leaks import LeakSearch
from server.evaluate.report import CONFIG, REPORT, load_metrics, render
from server.evaluate.summary import (
    READABLE,
    SUMMARY,
    AttackFigures,
    ContrastFigures,
    DeidFigures,
    Figures,
    HarmFigures,
    LeakFigures,
    PpoFigures,
    PrivacyFigures,
    RewardFigures,
    SftFigures,
    Summary,
    Version,
)
from server.run_folder import RunFolder, federated_lines
from simulations.machine.measure import Cost
from simulations.machine.outgoing import Outgoing, Sent
from simulations.sources.source import Source
from simulations.stages import Stages

NOT_CHECKED = "No clinician read the answers; the judge is a program."


def account(run: RunFolder, sites: Sequence[Path], progress: Progress) -> dict[str, Any]:
    """What every hospital's ledger says was spent: ε by site and the figures of the privacy statement, as JSON."""
    if not run.study.private:
        return {"epsilon": {}, "privacy": PrivacyFigures(engine="none", budget=run.study.privacy.epsilon).model_dump(mode="json")}
    progress.start("account for what was spent", 2)
    accounts = {folder.name: _steps(folder) for folder in sites}
    spent = epsilon_by_site(run.study, accounts)
    progress.advance()
    figures = privacy_figures(run.study, accounts)
    progress.advance()
    return {"epsilon": spent, "privacy": figures.model_dump(mode="json")}


def _steps(folder: Path) -> list[PrivateStep]:
    with Site.open(folder) as site:
        return [PrivateStep(charge.entry.stage, charge.mechanism, charge.simulated) for charge in site.ledger.charges()]


def conclude(run: RunFolder, source: Source, stages: Stages, now: Cost) -> Summary:
    """Write RUN/summary.json and RUN/report.html and return the figures. The search for leaks covers both before they are written."""
    search = LeakSearch(source.planted())
    messages = Outgoing(run.path, LeakSearch([])).messages()
    for message in messages:
        search.add(f"message {message.group} of {message.site}", message.bytes, message.kinds)
    search.folder(run.path, skip=[run.path / "sites", run.path / SUMMARY, run.path / REPORT])
    for path in sorted((run.path / "sites").glob("*/*.json*")):  # ledgers, audit logs, gate tokens: at the site, but no place for a name
        search.data(str(path.relative_to(run.path)), path.read_bytes())
    summary = summarize(_figures(run, stages, _leaks(search, messages), now), run.study)
    config_text = (run.path / CONFIG).read_text(encoding="utf-8")
    page = render(summary, run.study, load_metrics(run.path), config_text)
    found = search.report().found
    search.text(REPORT, page)
    search.text(SUMMARY, summary.model_dump_json())
    if search.report().found != found:
        summary = summarize(_figures(run, stages, _leaks(search, messages), now), run.study)
        page = render(summary, run.study, load_metrics(run.path), config_text)
    write_atomic(run.path / REPORT, page, mode=READABLE)
    summary.write(run.path)
    return summary


def _figures(run: RunFolder, stages: Stages, leaks: LeakFigures, now: Cost) -> Figures:
    study, done = run.study, {name: stage.result for name, stage in stages.done.items()}
    hospitals, judged, spent = done["hospitals"], done["evaluation"], done["accounting"]
    federated = [done[line] for line in federated_lines(study)]
    reward = RewardFigures.model_validate(judged["reward"])
    return Figures(
        wardround=version("wardround"),
        study_id=study.study_id,
        seed=study.seed,
        base=study.model.base,
        config_digest=study.digest,
        simulated=True,
        not_private=not study.private,
        sites=study.simulation.hospitals,
        patients=hospitals["patients"],
        rounds=sum(stage["rounds"] for stage in federated),
        epsilon=spent["epsilon"],
        delta=study.privacy.delta,
        unit=study.privacy.unit.value,
        reward_accuracy=reward.accuracy.value,
        ppo=PpoFigures.model_validate({**judged["ppo"], **done["yardsticks"]}),
        contrasts=tuple(map(ContrastFigures.model_validate, judged["contrasts"])),
        harm=None if judged["harm"] is None else HarmFigures.model_validate(judged["harm"]),
        attacks=None if judged["attacks"] is None else AttackFigures.model_validate(judged["attacks"]),
        deid=DeidFigures.model_validate(hospitals["deid"]),
        bytes_up=sum(stage["bytes_up"] for stage in federated),
        seconds={name: stage.seconds for name, stage in stages.done.items()},
        cpu_seconds={name: stage.cpu_seconds for name, stage in stages.done.items()},
        peak_rss_mb=max(now.peak_rss_mb, *(stage.peak_rss_mb for stage in stages.done.values())),
        sft=SftFigures.model_validate(judged["sft"]),
        reward=reward,
        privacy=PrivacyFigures.model_validate(spent["privacy"]),
        leaks=leaks,
        lineage=tuple(Version(line=v.line, number=v.number, digest=v.digest, parents=v.parents) for v in run.registry.versions()),
        not_checked=(NOT_CHECKED, limits(study), attack_limits(study)),
    )


def _leaks(search: LeakSearch, messages: Sequence[Sent]) -> LeakFigures:
    found = search.report()
    return LeakFigures(
        planted=found.planted,
        too_short=found.too_short,
        places=found.places,
        message_bytes=sum(m.bytes for m in messages),
        found=found.found,
        findings=tuple((f.place, f.kind, f.count) for f in found.findings),
    )
