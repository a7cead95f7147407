"""The labelling page: FastAPI at the door, the desk behind it. Without any resource from the network.

    door.py        where a request comes from, whose it is          rendering.py   what of the desk a page may know
    forms.py       what a form may say                              this file      one page after another

Protects against: text in a log (nothing is logged); an annotator who learns who wrote an answer (a page gets texts and positions, nothing
else, and answers are ready before they are asked for, so that no time depends on their source).
Does not protect against: see `door.py` and `rendering.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, FastAPI, Response
from fastapi.responses import RedirectResponse

from client.feedback.acts import PersonAdded, PersonClosed, Role
from client.feedback.desk import Desk
from client.feedback.door import allowed, guard, sign_in
from client.feedback.forms import Refused, field, remarks_of, verdict_of
from client.feedback.items import Remarks, Screen, Verdict
from client.feedback.people import new_person
from client.feedback.plots import agreement_plots
from client.feedback.rendering import Clock, Page, Visit, pages_of
from client.feedback.report import agreement_of
from client.feedback.texts import words
from common.errors import WardroundError


def create_app(desk: Desk, clock: Clock = lambda: datetime.now(UTC)) -> FastAPI:
    """The whole page over one site's desk."""
    page = Page(desk, clock)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    guard(app, page)
    sign_in(app, page)
    _labelling(app, page)
    _own_choices(app, page)
    _adjudication(app, page)
    _administration(app, page)
    return app


def _labelling(app: FastAPI, page: Page) -> None:
    here = allowed(app, Role.ANNOTATOR, Role.ADJUDICATOR)

    @app.get("/")
    def work(visit: Annotated[Visit, Depends(app.state.visit)]) -> Response:
        if not visit.person.labels:
            return RedirectResponse(pages_of(visit.person)[0][0], status_code=303)
        return page.question(visit)

    @app.post("/choose")
    def choose(visit: Annotated[Visit, here]) -> Response:
        t = words(page.language(visit.request, visit.person))
        screen = page.store.screen(visit.person.person_id)
        verdict, position = verdict_of(visit.form)
        remarks = Remarks() if screen is None else remarks_of(visit.form, screen.order, ratings=page.settings.ratings)
        new, feedback = page.desk.choose(visit.person.person_id, field(visit.form, "screen"), verdict, position, remarks, visit.now)
        if not visit.within_page and feedback is None:
            return RedirectResponse("/", status_code=303)
        return page.question(visit, message=t("saved" if new else "already"), feedback=feedback)

    @app.post("/undo")
    def undo(visit: Annotated[Visit, here]) -> Response:
        t = words(page.language(visit.request, visit.person))
        done = page.desk.undo(visit.person.person_id, visit.now)
        if not visit.within_page:
            return RedirectResponse("/", status_code=303)
        return page.question(visit, message=t("undone") if done else "")


def _own_choices(app: FastAPI, page: Page) -> None:
    here = allowed(app, Role.ANNOTATOR, Role.ADJUDICATOR)

    def show(visit: Visit, message: str = "") -> Response:
        changed = page.desk.changed(visit.person.person_id)
        figures = [
            (f"mine_{name}", getattr(changed, name))
            for name in ("choices", "settled", "agreed", "decisive", "turned", "strengthened", "adjudicated", "corrections", "rows")
        ]
        figures.append(("mine_training", _training_steps(page)))
        progress = page.desk.progress(visit.person.person_id, visit.now)
        return page.render(
            "mine.html.j2", visit.request, person=visit.person, csrf=visit.session.csrf,
            changed=changed, figures=figures, progress=progress, message=message,
        )  # fmt: skip

    @app.get("/mine")
    def mine(visit: Annotated[Visit, here]) -> Response:
        return show(visit)

    @app.post("/mine/withdraw")
    def withdraw(visit: Annotated[Visit, here]) -> Response:
        gone = page.store.withdraw(visit.person.person_id, page.settings)
        return show(visit, words(page.language(visit.request, visit.person))("withdrawn", number=gone))


def _training_steps(page: Page) -> int:
    return sum(charge.entry.stage.startswith("reward") for charge in page.store.site.ledger.charges())


def _adjudication(app: FastAPI, page: Page) -> None:
    here = allowed(app, Role.ADJUDICATOR)

    @app.get("/adjudicate")
    def show(visit: Annotated[Visit, here]) -> Response:
        screen = page.desk.adjudication_screen(visit.person.person_id, visit.now)
        waiting = len(page.desk.to_adjudicate(visit.person.person_id))
        t = words(page.language(visit.request, visit.person))
        return page.render(
            "adjudicate.html.j2", visit.request, person=visit.person, csrf=visit.session.csrf,
            view=page.view(screen), waiting=waiting, votes=_votes(page, screen, t),
        )  # fmt: skip

    @app.post("/adjudicate")
    def decide(visit: Annotated[Visit, here]) -> Response:
        screen = page.store.screen(visit.person.person_id, adjudication=True)
        verdict, position = verdict_of(visit.form)
        remarks = Remarks() if screen is None else remarks_of(visit.form, screen.order, ratings=page.settings.ratings)
        page.desk.adjudicate(visit.person.person_id, field(visit.form, "screen"), verdict, position, remarks, visit.now)
        return RedirectResponse("/adjudicate", status_code=303)


def _votes(page: Page, screen: Screen | None, t: Callable[..., str]) -> Sequence[tuple[str, int]]:
    """How many annotators said what, by where the answers stand on this page. Nobody is named."""
    if screen is None:
        return []
    said = page.store.of_item(screen.item_id)
    rows = [(t("vote_answer", number=n), sum(c.chosen == index for c in said)) for n, index in enumerate(screen.order, 1)]
    rows += [(t(f"vote_{v.value}"), sum(c.verdict is v for c in said)) for v in (Verdict.TIE, Verdict.UNSAFE, Verdict.SKIP)]
    return [(what, number) for what, number in rows if number]


def _administration(app: FastAPI, page: Page) -> None:
    looks, rules = allowed(app, Role.ADJUDICATOR, Role.ADMINISTRATOR), allowed(app, Role.ADMINISTRATOR)

    @app.get("/agreement")
    def agreement(visit: Annotated[Visit, looks]) -> Response:
        found = agreement_of(page.desk)
        # an adjudicator judges answers, not colleagues: only the administrator sees names
        names: Mapping[str, str] = found.names if visit.person.role is Role.ADMINISTRATOR else {}
        t = words(page.language(visit.request, visit.person))
        triples = [
            (names.get(c, c), t("triples_line", circular=f.circular, triples=f.triples)) for c, f in found.triples.items() if f.triples
        ]
        plots = {"overall": "", "position": "", "speed": "", "by_task": "", "by_annotator": "", "by_tag": "", "by_scale": ""}
        return page.render(
            "agreement.html.j2", visit.request, person=visit.person, csrf=visit.session.csrf,
            plots=plots | agreement_plots(found, t, names), triples=triples,
        )  # fmt: skip

    def list_people(visit: Visit, message: str = "", *, refused: bool = False) -> Response:
        rows = [
            {"person_id": p.person_id, "name": p.name, "role": p.role.value, "closed": p.closed,
             "votes": len(page.store.of_person(p.person_id))}
            for p in page.store.people.values()
        ]  # fmt: skip
        return page.render(
            "people.html.j2", visit.request, person=visit.person, csrf=visit.session.csrf, people=rows,
            roles=[role.value for role in Role], message=message, refused=refused, status=400 if refused else 200,
        )  # fmt: skip

    @app.get("/people")
    def people(visit: Annotated[Visit, rules]) -> Response:
        return list_people(visit)

    @app.post("/people")
    def add(visit: Annotated[Visit, rules]) -> Response:
        t = words(page.language(visit.request, visit.person))
        role = field(visit.form, "role")
        if role not in set(Role):
            raise Refused(400, "stale")
        try:
            person = new_person(field(visit.form, "name"), Role(role), field(visit.form, "password"))
            page.store.save_person(person, PersonAdded(person.person_id, person.role))
        except WardroundError as error:
            return list_people(visit, str(error), refused=True)
        return list_people(visit, t("added", name=person.name))

    @app.post("/people/close")
    def close(visit: Annotated[Visit, rules]) -> Response:
        person = page.store.people.get(field(visit.form, "person"))
        if person is None or person.person_id == visit.person.person_id:
            raise Refused(400, "stale")
        page.store.save_person(replace(person, closed=True), PersonClosed(person.person_id))
        page.sessions.end_all(person.person_id)
        return list_people(visit, words(page.language(visit.request, visit.person))("account_closed"))
