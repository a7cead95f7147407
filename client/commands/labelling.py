"""The labelling page, who may use it, and what goes in and out of it."""

import getpass
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from client.commands.options import Json, SiteFolder, commands
from client.feedback.acts import Format, LabelsExported, PairsAdded, PairsAsked, PasswordSet, PersonAdded, PersonClosed, Role
from client.feedback.desk import Desk
from client.feedback.people import Person, hashed, new_person
from client.feedback.settings import load_settings
from client.feedback.store import FeedbackStore
from client.hospital.site import Site
from common.config import ModelConfig
from common.console import plain, print_json, say
from common.errors import ConfigError, GateRefused
from common.journal import JSON
from common.storage import write_atomic
from common.terminal import progress_on

DEFAULT_PORT = 8137

people_app = typer.Typer(help="Who may use the labelling page.", no_args_is_help=True)
pairs_app = typer.Typer(help="Questions and choices: ask, import, export, settle.", no_args_is_help=True)
app = commands()
app.add_typer(people_app, name="people")
app.add_typer(pairs_app, name="pairs")


@app.command()
def label(
    folder: SiteFolder = Path(),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="On this machine alone; 0 takes a free one.")] = DEFAULT_PORT,
    as_json: Json = False,
) -> None:
    """Open the labelling page on this machine, until Ctrl+C."""
    from client.feedback.serving import listening, serve

    with Site.open(folder) as site:
        settings = load_settings(folder)
        store = FeedbackStore(site)
        with store.locked():
            if not any(person.labels and not person.closed for person in store.people.values()):
                raise ConfigError("nobody may label yet; add somebody with `wardround-site people add NAME`")
            questions = sum(not item.calibration for item in store.items.values())
        socket = listening(port)
        address = f"http://127.0.0.1:{socket.getsockname()[1]}/"
        if as_json:
            print_json({"address": address, "questions": questions, "people": len(store.people)})
            sys.stdout.flush()
        else:
            say(f"{questions} questions; the labelling page is {address} on this machine (Ctrl+C ends it)")
        serve(Desk(store, settings), socket)


@app.command()
def agreement(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """How well the annotators agree: per cent, Cohen, Fleiss, Krippendorff with intervals; position bias, haste, circles."""
    from client.feedback.report import agreement_of

    with Site.open(folder) as site:
        found = agreement_of(Desk(FeedbackStore(site), load_settings(folder)))
    if as_json:
        print_json(found.to_json())
        return
    table = Table("questions", "number", "agreement", "Fleiss κ", "Krippendorff α")
    for name, figures in {"all": found.overall, **found.by_task}.items():
        cells = [
            "–" if e.value is None else f"{e.value:.2f}" + ("" if e.low is None else f" [{e.low:.2f}, {e.high:.2f}]")
            for e in (figures.percent, figures.fleiss, figures.alpha)
        ]
        table.add_row(name, str(figures.percent.units), *cells)
    Console().print(table)
    say(f"{found.votes} votes on {found.questions} questions: " + ", ".join(f"{n} {state}" for state, n in found.states.items()))
    for code in found.names:
        bias, speed, circle = found.position.get(code), found.speed.get(code), found.triples.get(code)
        if bias is not None and bias.stands_out:
            say(f"{code} chose the first answer in {bias.first} of {bias.choices} (p = {bias.p:.4f})")
        if speed is not None and speed.stands_out:
            say(f"{code} is in haste: {speed.too_fast} of {speed.choices} choices faster than the text can be read")
        if circle is not None and circle.circular:
            say(f"{code} prefers in a circle in {circle.circular} of {circle.triples} triples")


# -- people ------------------------------------------------------------------------------------------------------------


@people_app.command("add")
def add_person(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who signs in.")],
    role: Annotated[
        Role, typer.Option("--role", help="`annotator` labels; `adjudicator` labels and settles; `administrator` adds people and looks.")
    ] = Role.ANNOTATOR,
    folder: SiteFolder = Path(),
    as_json: Json = False,
) -> None:
    """Add somebody; asks for a password, or reads it from standard input when that is no terminal."""
    with Site.open(folder) as site:
        person = new_person(name, role, _password())
        FeedbackStore(site).save_person(person, PersonAdded(person.person_id, role))
    if as_json:
        print_json({"person": str(person.person_id), "role": role.value})
    else:
        say(f"{person.name} can sign in as {role.value}")


@people_app.command("list")
def list_people(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """Everybody, with role and number of choices."""
    with Site.open(folder) as site:
        store = FeedbackStore(site)
        with store.locked():
            rows = [(person, len(store.of_person(person.person_id))) for person in store.people.values()]
    if as_json:
        print_json({"people": [{"person": str(p.person_id), "role": p.role.value, "closed": p.closed, "choices": n} for p, n in rows]})
        return
    table = Table("name", "role", "choices", "")
    for person, number in rows:
        table.add_row(plain(person.name), person.role.value, str(number), "closed" if person.closed else "")
    Console().print(table)


@people_app.command("password")
def set_password(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who signs in.")], folder: SiteFolder = Path(), as_json: Json = False
) -> None:
    """Give somebody a new password."""
    with Site.open(folder) as site:
        store = FeedbackStore(site)
        person = _named(store, name)
        store.save_person(replace(person, password=hashed(_password(), person.name)), PasswordSet(person.person_id))
    _done(as_json, f"{person.name} has a new password; whoever was signed in with the old one is signed out")


@people_app.command("close")
def close_person(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who signs in.")], folder: SiteFolder = Path(), as_json: Json = False
) -> None:
    """Close an account. Choices made with it stay."""
    with Site.open(folder) as site:
        store = FeedbackStore(site)
        person = _named(store, name)
        store.save_person(replace(person, closed=True), PersonClosed(person.person_id))
    _done(as_json, f"the account of {person.name} is closed; its choices stay")


def _named(store: FeedbackStore, name: str) -> Person:
    with store.locked():
        person = store.named(name)
    if person is None:
        raise ConfigError("nobody here has this name; `wardround-site people list` shows everybody")
    return person


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first, second = getpass.getpass("Password: "), getpass.getpass("Again: ")
    if first != second:
        raise ConfigError("the two passwords differ; nothing was changed")
    return first


# -- pairs -------------------------------------------------------------------------------------------------------------


@pairs_app.command("import")
def import_pairs(
    path: Annotated[Path, typer.Argument(metavar="FILE")],
    kind: Annotated[Format, typer.Option("--format", help="`label-studio`, `argilla`, or `jsonl`, our own.")] = Format.JSONL,
    folder: SiteFolder = Path(),
    as_json: Json = False,
) -> None:
    """Take questions in, after de-identification: all that pass it, or none with the file, line and field that is wrong."""
    from client.feedback.exchange import cleaned, read_items

    if kind is Format.COUNTS:
        raise typer.BadParameter("counts are an export", param_hint="--format")
    with Site.open(folder) as site, progress_on() as progress:
        items = read_items(path, kind)
        progress.start("de-identify the questions", 1)
        done = cleaned(items, site.vault)
        progress.advance()
        FeedbackStore(site).add_items(done.items, PairsAdded(len(done.items), done.left_aside, kind))
    if as_json:
        print_json({"questions": len(done.items), "left_aside": done.left_aside, "replaced": done.replaced})
        return
    say(f"{len(done.items)} questions, {done.replaced} identifiers replaced")
    if done.left_aside:
        say(f"left aside: {done.left_aside} in which a second reading doubts that every identifier was found")


@pairs_app.command("export")
def export_pairs(
    path: Annotated[Path, typer.Argument(metavar="FILE")],
    kind: Annotated[Format, typer.Option("--format", help="`label-studio`, `argilla`, or `counts`: CSV without text.")] = Format.COUNTS,
    folder: SiteFolder = Path(),
    as_json: Json = False,
) -> None:
    """Write questions and choices to a file for its owner alone. All formats but `counts` hold text in the clear."""
    from client.feedback.exchange import to_argilla, to_counts, to_label_studio
    from client.feedback.report import agreement_of

    if kind is Format.JSONL:
        raise typer.BadParameter("choose label-studio, argilla or counts", param_hint="--format")
    with Site.open(folder) as site:
        desk = Desk(FeedbackStore(site), load_settings(folder))
        with desk.store.locked():
            items = [item for item in desk.store.items.values() if not item.calibration]
            codes = {person_id: number for number, person_id in enumerate(desk.store.people, 1)}
            if kind is Format.COUNTS:
                text = to_counts(agreement_of(desk), [c for c in desk.store.choices() if c.item_id in {i.item_id for i in items}])
            else:
                text = (to_label_studio if kind is Format.LABEL_STUDIO else to_argilla)(items, desk.store.of_item, codes)
        site.record(LabelsExported(len(items), kind))
        write_atomic(path, text)
    _done(as_json, f"{len(items)} questions are in {path}", questions=len(items), out=str(path))


@pairs_app.command("ask")
def ask_pairs(
    policy: Annotated[list[Path] | None, typer.Option("--policy", help="Adapter folder of a model that answers; may be repeated.")] = None,
    reward: Annotated[
        list[Path] | None, typer.Option("--reward", help="Adapter folder of a reward member; two or more, or none to ask at random.")
    ] = None,
    base: Annotated[str, typer.Option("--base", help="The base model, as `model.base` of the study.")] = ModelConfig().base,
    answers: Annotated[int, typer.Option("--answers", min=2, max=4, help="Answers to each prompt.")] = 2,
    most: Annotated[int, typer.Option("--most", min=1, help="Look at no more prompts than this.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", min=0.1, max=2.0, help="How freely answers are sampled.")] = 0.9,
    folder: SiteFolder = Path(),
    as_json: Json = False,
) -> None:
    """Let the current models answer prompts of released notes here, and ask the clinicians where the reward members disagree."""
    from client.feedback.candidates import ask
    from common.bases import load_base

    with Site.open(folder) as site, progress_on() as progress:
        store = FeedbackStore(site)
        with store.locked():
            known = list(store.items.values())
        done = ask(
            site, load_base(base), policy or [], reward or [], known, load_settings(folder), ModelConfig(base=base),
            answers=answers, most=most, temperature=temperature, progress=progress,
        )  # fmt: skip
        store.add_items(done.items.items, PairsAsked(done.prompts, done.by_disagreement, done.at_random))
    _done(
        as_json,
        f"{len(done.items.items)} questions from {done.prompts} prompts: {done.by_disagreement} by disagreement, {done.at_random} at random; "
        f"{done.alike} had one answer only, {done.items.left_aside} were held back by the de-identification",
        questions=len(done.items.items), prompts=done.prompts, by_disagreement=done.by_disagreement, at_random=done.at_random,
        alike=done.alike, left_aside=done.items.left_aside,
    )  # fmt: skip


@pairs_app.command("settle")
def settle_pairs(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """Give training every settled question, weighted by the agreement on it, in place of what it had from the page before."""
    with Site.open(folder) as site:
        store, settings = FeedbackStore(site), load_settings(folder)
        pairs, rows = store.settle_all(settings)
        states = Counter(outcome.state.value for outcome in Desk(store, settings).outcomes().values())
        covered = _cover(site)
    _done(
        as_json,
        f"{pairs} pairs ({rows} votes) are ready for training; "
        + ", ".join(f"{n} {state}" for state, n in states.items())
        + ("" if covered else "; run `wardround-site deidentify` before training, so that the gate covers them"),
        pairs=pairs,
        rows=rows,
        states=dict(states),
        covered=covered,
    )


def _cover(site: Site) -> bool:
    """Have the gate read the new preferences. False when the notes themselves have no valid token: holding the gate covers both."""
    from client.deid.gate import cover_preferences

    try:
        cover_preferences(site)
    except GateRefused:
        return False
    return True


def _done(as_json: bool, sentence: str, **figures: JSON) -> None:
    if as_json:
        print_json({"done": True, **figures})
    else:
        say(sentence)
