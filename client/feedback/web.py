"""The labelling page: FastAPI at the door, the desk behind it. Bound to this machine alone, without any resource from the network.

Protects against: a page of another site that acts in an annotator's name (a token in every form, the Origin header, SameSite=Strict); a name of
another host that is made to point here (DNS rebinding: only this machine's own names are answered); scripts, frames, fonts or images from
anywhere else (content-security policy); text that is taken for markup (everything is escaped); text in a log (nothing is logged, and no error
shows what it choked on); an annotator who learns who wrote an answer (the page gets texts and positions, nothing else, and answers are
ready before they are asked for, so that no time depends on their source).
Does not protect against: other programs of the same user on this machine; a browser extension that reads pages. The cookie is not marked
Secure, because the page is plain HTTP on the loopback interface; put a proxy with TLS before it to serve other machines.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from client.feedback.acts import PersonAdded, PersonClosed, Role, SignedIn, SignedOut, SignInRefused
from client.feedback.desk import Desk, Feedback
from client.feedback.items import Remarks, Scale, Screen, Tag, Verdict
from client.feedback.people import Person, Session, Sessions, Taste, Throttle, fits, new_person
from client.feedback.plots import agreement_plots
from client.feedback.report import agreement_of
from client.feedback.settings import GUIDELINES
from client.feedback.texts import PAGE, languages, preferred, words
from common.errors import WardroundError

COOKIE, DOOR_COOKIE = "wardround-label", "wardround-door"
HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
MAX_FORM_BYTES = 64 * 1024
STATIC = {"label.css": "text/css", "label.js": "text/javascript", "htmx.min.js": "text/javascript", "mark.svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True, repr=False)
class View:
    """A question as the page may know it: no item, no source, no index, only texts where they stand."""

    token: str
    prompt: str
    answers: tuple[str, ...]
    ratings: bool

    def __repr__(self) -> str:
        return f"View(<{len(self.answers)} answers>)"


@dataclass(frozen=True, slots=True, repr=False)
class Visit:
    """A request of somebody who is signed in; the form's token has been checked."""

    request: Request
    person: Person
    session: Session
    form: FormData
    now: datetime

    @property
    def within_page(self) -> bool:
        """Whether htmx asked, which takes the question alone."""
        return self.request.headers.get("hx-request") == "true"


class _NotSignedIn(Exception):
    pass


class _Refused(Exception):
    def __init__(self, status: int, key: str) -> None:
        self.status, self.key = status, key


class Page:
    """What every page needs: templates, texts, the desk, and who is signed in."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self.desk, self.store, self.settings, self.clock = desk, desk.store, desk.settings, clock
        self.sessions, self.throttle = Sessions(self.settings), Throttle()
        self.door: dict[str, str] = {}
        self._templates = Environment(
            loader=PackageLoader("client.feedback", "page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        own = self.store.site.folder / GUIDELINES
        self._guidelines = own.read_text(encoding="utf-8").strip().splitlines() if own.exists() else None

    def render(
        self, name: str, request: Request, *, person: Person | None = None, csrf: str = "", status: int = 200, **values: Any
    ) -> HTMLResponse:
        language = self.language(request, person)
        t = words(language)
        taste = Taste() if person is None else person.taste
        common: dict[str, Any] = {
            "t": t, "language": language, "languages": [(code, texts["language"]) for code, texts in languages().items()],
            "taste": taste, "person": person, "csrf": csrf, "here": request.url.path, "pages": _pages(person),
            "guidelines": self._guidelines or t("guidelines_text").strip().splitlines(), "message": "", "refused": False,
            "content_language": self.settings.content_language, "tags": [tag.value for tag in Tag], "scales": [s.value for s in Scale],
        }  # fmt: skip
        return HTMLResponse(self._templates.get_template(name).render(common | values), status_code=status)

    def language(self, request: Request, person: Person | None) -> str:
        if person is not None and person.taste.language in languages():
            return str(person.taste.language)
        return preferred(request.headers.get("accept-language", ""), self.settings.language)

    def view(self, screen: Screen | None) -> View | None:
        if screen is None:
            return None
        item = self.store.items[screen.item_id]
        return View(screen.token, item.prompt, tuple(item.answers[i].text for i in screen.order), self.settings.ratings)

    def question(self, visit: Visit, *, message: str = "", feedback: Feedback | None = None) -> HTMLResponse:
        """The question before this annotator: the whole page, or the part of it that htmx puts in."""
        person_id = visit.person.person_id
        values: dict[str, Any] = {
            "view": self.view(self.desk.screen(person_id, visit.now)),
            "progress": self.desk.progress(person_id, visit.now),
            "message": message,
            "feedback": feedback,
        }
        name = "question.html.j2" if visit.within_page else "work.html.j2"
        return self.render(name, visit.request, person=visit.person, csrf=visit.session.csrf, **values)


def create_app(desk: Desk, clock: Clock = lambda: datetime.now(UTC)) -> FastAPI:
    """The whole page over one site's desk."""
    page = Page(desk, clock)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _guard(app, page)
    _sign_in(app, page)
    _labelling(app, page)
    _own_choices(app, page)
    _adjudication(app, page)
    _administration(app, page)
    return app


# -- the door ----------------------------------------------------------------------------------------------------------


def _guard(app: FastAPI, page: Page) -> None:
    @app.middleware("http")
    async def at_the_door(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        host = urlsplit(f"//{request.headers.get('host', '')}")
        if host.hostname not in HOSTS:
            return Response("this page answers on this machine alone", status_code=421, headers=HEADERS)
        if request.method == "POST":
            origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
            if (origin is not None and urlsplit(origin).netloc != request.headers.get("host")) or site != "same-origin":
                return Response("a form of another site", status_code=403, headers=HEADERS)
            length = request.headers.get("content-length", "")
            if not length.isdigit() or int(length) > MAX_FORM_BYTES:
                return Response(f"a form has at most {MAX_FORM_BYTES} bytes, and says how many", status_code=413, headers=HEADERS)
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    def signed_in(request: Request) -> tuple[Person, Session] | None:
        session = page.sessions.find(request.cookies.get(COOKIE), page.clock())
        person = None if session is None else page.store.people.get(session.person_id)
        return None if session is None or person is None or person.closed else (person, session)

    @app.exception_handler(_NotSignedIn)
    def to_the_door(request: Request, _: Exception) -> Response:
        late = "?expired=1" if request.cookies.get(COOKIE) else ""
        if request.headers.get("hx-request") == "true":
            return Response(status_code=200, headers={"HX-Redirect": f"/sign-in{late}"})
        return RedirectResponse(f"/sign-in{late}", status_code=303)

    def problem(request: Request, status: int, message: str) -> Response:
        known = signed_in(request)
        person, csrf = (None, "") if known is None else (known[0], known[1].csrf)
        return page.render("problem.html.j2", request, person=person, csrf=csrf, status=status, message=message)

    @app.exception_handler(_Refused)
    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, _Refused)
        return problem(request, error.status, words(page.language(request, None))(error.key))

    @app.exception_handler(HTTPException)
    def not_there(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(request, error.status_code, words(page.language(request, None))("not_found"))

    @app.exception_handler(WardroundError)
    def failed(request: Request, error: Exception) -> Response:
        return problem(request, 400, str(error))  # errors of this family never hold text of a hospital

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise _Refused(404, "not_found")
        return Response((PAGE / name).read_bytes(), media_type=STATIC[name])

    async def visit(request: Request) -> Visit:
        known = signed_in(request)
        if known is None:
            raise _NotSignedIn
        form = await request.form(max_files=0, max_fields=200) if request.method == "POST" else FormData()
        if request.method == "POST" and not secrets.compare_digest(_field(form, "csrf").encode(), known[1].csrf.encode()):
            raise _Refused(403, "stale")
        return Visit(request, *known, form, page.clock())

    app.state.visit = visit


def _allowed(app: FastAPI, *roles: Role) -> Any:
    """A visit of somebody with one of these roles."""

    def check(visit: Annotated[Visit, Depends(app.state.visit)]) -> Visit:
        if visit.person.role not in roles:
            raise _Refused(403, "forbidden")
        return visit

    return Depends(check)


def _sign_in(app: FastAPI, page: Page) -> None:
    def door(request: Request, status: int = 200, **values: Any) -> Response:
        # Before anybody is signed in the form's token is a cookie of its own: another site can neither read nor set it.
        token = request.cookies.get(DOOR_COOKIE) or secrets.token_urlsafe(24)
        response = page.render("sign_in.html.j2", request, csrf=token, status=status, **values)
        response.set_cookie(DOOR_COOKIE, token, httponly=True, samesite="strict", path="/sign-in")
        return response

    @app.get("/sign-in")
    def show(request: Request) -> Response:
        t = words(page.language(request, None))
        said = next((t(key) for key, name in (("expired", "expired"), ("signed_out", "out")) if name in request.query_params), "")
        return door(request, message=said)

    async def door_form(request: Request) -> FormData:
        form = await request.form(max_files=0, max_fields=10)
        held = request.cookies.get(DOOR_COOKIE, "")
        if not held or not secrets.compare_digest(held.encode(), _field(form, "csrf").encode()):
            raise _Refused(403, "stale")
        return form

    @app.post("/sign-in")
    def enter(request: Request, form: Annotated[FormData, Depends(door_form)]) -> Response:
        t, now = words(page.language(request, None)), page.clock()
        name, password = _field(form, "name"), _field(form, "password")
        with page.store.locked():
            person = page.store.named(name)
        wait = page.throttle.wait_seconds(name, now)
        if wait > 0:
            page.store.site.record(SignInRefused(None if person is None else person.person_id, throttled=True), now=now)
            response = door(request, 429, message=t("sign_in_wait", seconds=int(wait) + 1), refused=True)
            response.headers["Retry-After"] = str(int(wait) + 1)
            return response
        if not fits(person, password) or person is None:
            page.throttle.failed(name, now)
            page.store.site.record(SignInRefused(None if person is None else person.person_id, throttled=False), now=now)
            return door(request, 403, message=t("sign_in_failed"), refused=True)
        page.throttle.succeeded(name)
        page.sessions.end(request.cookies.get(COOKIE))
        page.store.site.record(SignedIn(person.person_id), now=now)
        response = RedirectResponse(_pages(person)[0][0], status_code=303)
        response.set_cookie(COOKIE, page.sessions.begin(person.person_id, now), httponly=True, samesite="strict", path="/")
        return response

    @app.post("/sign-out")
    def leave(visit: Annotated[Visit, Depends(app.state.visit)]) -> Response:
        page.sessions.end(visit.request.cookies.get(COOKIE))
        page.store.site.record(SignedOut(visit.person.person_id), now=visit.now)
        response = RedirectResponse("/sign-in?out=1", status_code=303)
        response.delete_cookie(COOKIE, path="/")
        return response

    @app.post("/display")
    def display(visit: Annotated[Visit, Depends(app.state.visit)]) -> Response:
        form, taste = visit.form, visit.person.taste
        language, theme, size = _field(form, "language"), _field(form, "theme"), _field(form, "size")
        taste = replace(
            taste,
            language=language if language in languages() else taste.language,
            theme=theme if theme in ("auto", "light", "dark") else taste.theme,
            size=size if size in ("normal", "large") else taste.size,
            shortcuts=_field(form, "shortcuts") == "on",
        )
        page.store.save_person(replace(visit.person, taste=taste), None)
        here = _field(form, "here")
        return RedirectResponse(here if here in {path for path, _ in _pages(visit.person)} else _pages(visit.person)[0][0], status_code=303)


# -- the pages ---------------------------------------------------------------------------------------------------------


def _labelling(app: FastAPI, page: Page) -> None:
    here = _allowed(app, Role.ANNOTATOR, Role.ADJUDICATOR)

    @app.get("/")
    def work(visit: Annotated[Visit, Depends(app.state.visit)]) -> Response:
        if not visit.person.labels:
            return RedirectResponse(_pages(visit.person)[0][0], status_code=303)
        return page.question(visit)

    @app.post("/choose")
    def choose(visit: Annotated[Visit, here]) -> Response:
        t = words(page.language(visit.request, visit.person))
        screen = page.store.screen(visit.person.person_id)
        verdict, position = _verdict(visit.form)
        remarks = Remarks() if screen is None else _remarks(visit.form, screen.order, ratings=page.settings.ratings)
        new, feedback = page.desk.choose(visit.person.person_id, _field(visit.form, "screen"), verdict, position, remarks, visit.now)
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
    here = _allowed(app, Role.ANNOTATOR, Role.ADJUDICATOR)

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
        gone = page.store.withdraw(visit.person.person_id)
        return show(visit, words(page.language(visit.request, visit.person))("withdrawn", number=gone))


def _training_steps(page: Page) -> int:
    return sum(charge.entry.stage.startswith("reward") for charge in page.store.site.ledger.charges())


def _adjudication(app: FastAPI, page: Page) -> None:
    here = _allowed(app, Role.ADJUDICATOR)

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
        verdict, position = _verdict(visit.form)
        remarks = Remarks() if screen is None else _remarks(visit.form, screen.order, ratings=page.settings.ratings)
        page.desk.adjudicate(visit.person.person_id, _field(visit.form, "screen"), verdict, position, remarks, visit.now)
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
    looks, rules = _allowed(app, Role.ADJUDICATOR, Role.ADMINISTRATOR), _allowed(app, Role.ADMINISTRATOR)

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
        role = _field(visit.form, "role")
        if role not in set(Role):
            raise _Refused(400, "stale")
        try:
            person = new_person(_field(visit.form, "name"), Role(role), _field(visit.form, "password"))
            page.store.save_person(person, PersonAdded(person.person_id, person.role))
        except WardroundError as error:
            return list_people(visit, str(error), refused=True)
        return list_people(visit, t("added", name=person.name))

    @app.post("/people/close")
    def close(visit: Annotated[Visit, rules]) -> Response:
        person = page.store.people.get(_field(visit.form, "person"))
        if person is None or person.person_id == visit.person.person_id:
            raise _Refused(400, "stale")
        page.store.save_person(replace(person, closed=True), PersonClosed(person.person_id))
        page.sessions.end_all(person.person_id)
        return list_people(visit, words(page.language(visit.request, visit.person))("account_closed"))


def _pages(person: Person | None) -> list[tuple[str, str]]:
    """What somebody of this role can open; the first is where they arrive."""
    if person is None:
        return []
    own = [("/", "work"), ("/mine", "mine")]
    return {
        Role.ANNOTATOR: own,
        Role.ADJUDICATOR: [*own, ("/adjudicate", "adjudicate"), ("/agreement", "agreement")],
        Role.ADMINISTRATOR: [("/agreement", "agreement"), ("/people", "people")],
    }[person.role]


# -- forms -------------------------------------------------------------------------------------------------------------


def _field(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _verdict(form: FormData) -> tuple[Verdict, int | None]:
    """A number is the answer that stood there; a word is one of the other verdicts."""
    said = _field(form, "verdict")
    if said.isascii() and said.isdigit():
        return Verdict.ANSWER, int(said[:2])
    if said not in set(Verdict) - {Verdict.ANSWER}:
        raise _Refused(400, "stale")
    return Verdict(said), None


def _remarks(form: FormData, order: Sequence[int], *, ratings: bool) -> Remarks:
    """Tags and ratings by index in the item, from fields named by where the answer stood."""
    tags = [(index, Tag(value)) for place, index in enumerate(order, 1) for value in form.getlist(f"tag-{place}") if value in set(Tag)]
    rated = [
        (index, scale, int(value))
        for place, index in enumerate(order, 1)
        for scale in Scale
        if (value := _field(form, f"rating-{place}-{scale}")) in {"1", "2", "3", "4", "5"}
    ]
    other, correction = _field(form, "other").strip()[:500], _field(form, "correction").strip()[:8000]
    return Remarks(tuple(dict.fromkeys(tags)), other, correction, tuple(rated) if ratings else ())
