"""The commands of wardround-coordinator that concern models: pretrain, align, evaluate, summarize, release, rollback.

What knows torch is imported where it is used: it takes seconds to load, and every command of the coordinator reads this file.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from common.adapters import Adapter
from common.config import Stage
from common.console import print_json, say
from common.errors import ConfigError
from common.journal import JSON
from common.storage import write_atomic
from common.terminal import progress_on
from server.evaluate.gate import require_release
from server.evaluate.summary import SUMMARY, load_summary
from server.run_folder import RunFolder

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `launch` or `wardround simulate` leaves it.")]


def pretrain(
    run: Run,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", metavar="F.jsonl", help='Public pairs for the reward, lines {"prompt", "chosen", "rejected"}.')
    ] = None,
    judge_pairs: Annotated[
        Path | None, typer.Option("--judge-pairs", metavar="F.jsonl", help="Other public pairs, for the judges of `ppo.watch`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on public pairs what the study wants from them: the reward members' start, before they are launched; the judges; the AI member."""
    from common.bases import shared_base
    from server.align.judges import judge_lines
    from server.align.recipe import from_public_pairs
    from server.public_texts import read_pairs

    if pairs is None and judge_pairs is None:
        raise typer.BadParameter("name a file with --pairs or --judge-pairs")
    folder = RunFolder.open(run.resolve())
    study = folder.study
    if judge_pairs is not None and not judge_lines(study):
        raise ConfigError("the study has no judges; `ppo.watch.judges` is 0")
    with folder.alone(), progress_on() as progress:
        versions = from_public_pairs(
            folder,
            shared_base(study.model.base, study.model.dtype),
            read_pairs(pairs) if pairs else (),
            read_pairs(judge_pairs) if judge_pairs else (),
            progress,
        )
    figures: dict[str, JSON] = {version.name: {"digest": version.digest, **version.figures} for version in versions}
    _tell(figures, as_json, "\n".join(f"{version.name}: {version.figures['pairs']} pairs" for version in versions))


def align(
    run: Run,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", metavar="F.jsonl", help='Public prompts, lines {"prompt"}; kept in RUN.')
    ] = None,
    examples: Annotated[
        Path | None, typer.Option("--examples", metavar="F.jsonl", help='Public answers for PPO-ptx, lines {"prompt", "answer"}.')
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the policy by PPO on public prompts against the run's reward models, or go on where it was stopped."""
    from common.bases import shared_base
    from server.align.stage import align as train_policy
    from server.public_texts import encoded_examples

    folder = RunFolder.open(run.resolve())
    asked = _prompts(folder, prompts)
    study, base = folder.study, shared_base(folder.study.model.base, folder.study.model.dtype)
    kept = encoded_examples(base, study, examples)
    with progress_on() as progress:
        version = train_policy(folder, base, asked, examples=kept, progress=progress)
    figures: dict[str, JSON] = {key: version.figures[key] for key in ("steps", "stopped", "kl", "reward")}
    sentence = f"{version.name} after {figures['steps']} steps ({str(figures['stopped']).replace('_', ' ')}), KL {figures['kl']:.2f}"
    _tell({"policy": version.name, "digest": version.digest, **figures}, as_json, sentence)


def evaluate(
    run: Run,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", metavar="F.jsonl", help='Pairs, lines {"prompt", "chosen", "rejected", "site"?}.')
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", metavar="F.jsonl", help='Exam, lines {"question", "options", "answer_index"}.')
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the reward models on pairs, and base, SFT model and policy on exam questions, from files of your own."""
    from common.bases import shared_base
    from server.align.experience import POLICY
    from server.align.prompts import derived_seed
    from server.align.stage import load_models, prepare
    from server.evaluate.requested import exam_accuracy, pair_accuracy
    from server.public_texts import read_questions, read_site_pairs

    if pairs is None and questions is None:
        raise typer.BadParameter("name a file with --pairs or --questions")
    folder = RunFolder.open(run.resolve())
    study, base = folder.study, shared_base(folder.study.model.base, folder.study.model.dtype)
    load_models(folder, base)
    found: dict[str, JSON] = {}
    if pairs is not None:
        judged = read_site_pairs(pairs)
        ensemble = prepare(folder, base, _prompts(folder, None))[0].ensemble
        assert ensemble is not None
        found |= pair_accuracy(ensemble, judged, np.random.default_rng(derived_seed(study.seed, "requested pairs")))
    if questions is not None:
        policy = folder.registry.find(POLICY)
        if policy is not None:
            base.put(POLICY, Adapter.load(policy.folder))
        models = (Stage.SFT.value, POLICY) if policy else (Stage.SFT.value,)
        found["questions"] = exam_accuracy(base, read_questions(questions), study, models)
    _tell(found, as_json, _sentences(found))


def summarize(
    run: Run,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", metavar="F.jsonl", help='Held-out pairs, lines {"prompt", "chosen", "rejected", "site"?}.')
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option("--held-out", metavar="F.jsonl", help='Prompts that PPO has not seen, lines {"prompt"}.')
    ] = None,
    examples: Annotated[
        Path | None, typer.Option("--examples", metavar="F.jsonl", help='Held-out answers for the loss, lines {"prompt", "answer"}.')
    ] = None,
    planted: Annotated[
        Path | None,
        typer.Option("--planted", metavar="F.jsonl", help='What the hospitals planted in their notes, lines {"kind", "value"}.'),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a run on files of your own and write its summary and report, on which `release` stands. What is not given is not measured."""
    from common.bases import shared_base
    from server.evaluate.deployed import DeskTexts, summarize_run
    from server.public_texts import read_examples, read_planted, read_prompts, read_site_pairs

    folder = RunFolder.open(run.resolve())
    if (folder.path / "stages").is_dir():
        raise ConfigError(f"{folder.path}: `wardround simulate` made this run and writes its summary itself")
    texts = DeskTexts(
        read_site_pairs(pairs) if pairs else (),
        read_prompts(held_out) if held_out else (),
        read_examples(examples) if examples else (),
        read_planted(planted) if planted else (),
    )
    study, prompts = folder.study, _prompts(folder, None)
    seen = len(set(texts.held_out) & set(prompts))
    if seen:
        raise ConfigError(f"{held_out}: {seen} of {len(texts.held_out)} prompts are among those of PPO; take them out")
    with folder.alone(), progress_on() as progress:
        summary = summarize_run(folder, shared_base(study.model.base, study.model.dtype), prompts, texts, progress)
    lines = [f"{name}: {'holds' if gate.held else 'DOES NOT HOLD'}; {gate.reason}" for name, gate in summary.gates.items()]
    _tell(summary.model_dump(mode="json"), as_json, "\n".join(lines))


def release(run: Run, as_json: Json = False) -> None:
    """Hand the policy on, if every gate of the study holds and nothing of the run is simulated; otherwise say why not."""
    from server.align.experience import POLICY

    folder = RunFolder.open(run.resolve())
    summary = load_summary(folder.path)
    require_release(summary)
    folder.registry.verify()
    version = folder.registry.latest(POLICY)
    if summary.config_digest != folder.study.digest or not any(
        (v.line, v.number, v.digest) == (version.line, version.number, version.digest) for v in summary.lineage
    ):
        raise ConfigError(f"{folder.path / SUMMARY} is not about {version.name} of this study; evaluate the run again before its release")
    digest = hashlib.sha256((folder.path / SUMMARY).read_bytes()).hexdigest()
    folder.registry.release(version, summary_digest=digest)
    result: dict[str, JSON] = {"released": version.name, "digest": version.digest, "summary": digest, "folder": str(version.folder)}
    _tell(result, as_json, f"{version.name} is released: {version.folder}")


def rollback(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Such as reward-0/1 or policy/2.")],
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="The run folder; the current folder if not given.")] = Path(),
    as_json: Json = False,
) -> None:
    """Use an earlier version of a line again. Nothing is removed; `align` afterwards trains a policy on what is in use."""
    registry = RunFolder.open(run.resolve()).registry
    before = registry.find(version.partition("/")[0])
    chosen = registry.rollback(version)
    result: dict[str, JSON] = {"in_use": chosen.name, "before": before.name if before else None, "digest": chosen.digest}
    _tell(result, as_json, f"{chosen.name} is in use" + (f" instead of {before.name}" if before else ""))


def _prompts(run: RunFolder, path: Path | None) -> list[str]:
    """The prompts of `path`, kept in the run for later commands; without one, those that were kept."""
    from server.public_texts import read_prompts

    kept = run.prompts_file
    if path is not None:
        read_prompts(path)
        if path.resolve() != kept:
            write_atomic(kept, path.read_bytes(), mode=0o644)
    elif not kept.exists():
        raise ConfigError(f'{kept}: there are no prompts yet; give public ones with `align RUN --prompts F.jsonl`, lines {{"prompt"}}')
    return read_prompts(kept)


def _sentences(found: dict[str, JSON]) -> str:
    lines = []
    if "pairs" in found:
        lines.append(
            f"reward: right on {found['accuracy']:.1%} [{found['accuracy_low']:.1%}, {found['accuracy_high']:.1%}] of {found['pairs']} pairs"
        )
    exam = found.get("questions")
    if isinstance(exam, dict):
        for name, e in exam.items():
            if isinstance(e, dict):
                lines.append(
                    f"{name}: {e['accuracy']:.1%} [{e['accuracy_low']:.1%}, {e['accuracy_high']:.1%}] of {e['questions']} questions"
                )
        lines.append(f"by chance: {exam['chance']:.1%}")
    return "\n".join(lines)


def _tell(result: dict[str, JSON], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(result)
    else:
        say(sentence)


COMMANDS = (pretrain, align, evaluate, summarize, release, rollback)
