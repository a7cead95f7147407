"""From what the desk knows to what the page may know: templates, texts in the annotator's language, and views without sources.

Protects against: a template that could show who wrote an answer (a `View` does not hold it); a word that is missing in a language or a
template (an error, never a blank); text that is taken for markup (everything is escaped).
Does not protect against: a style that gives a model away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import FormData

from client.feedback.acts import Role
from client.feedback.desk import Desk, Feedback
from client.feedback.items import Scale, Screen, Tag
from client.feedback.people import Person, Session, Sessions, Taste, Throttle
from client.feedback.settings import GUIDELINES
from client.feedback.texts import languages, preferred, words

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


class Page:
    """What every page needs: templates, texts, the desk, and who is signed in."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self.desk, self.store, self.settings, self.clock = desk, desk.store, desk.settings, clock
        self.sessions, self.throttle = Sessions(self.settings), Throttle()
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
            "taste": taste, "person": person, "csrf": csrf, "here": request.url.path, "pages": pages_of(person),
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


def pages_of(person: Person | None) -> list[tuple[str, str]]:
    """What somebody of this role can open; the first is where they arrive."""
    if person is None:
        return []
    own = [("/", "work"), ("/mine", "mine")]
    return {
        Role.ANNOTATOR: own,
        Role.ADJUDICATOR: [*own, ("/adjudicate", "adjudicate"), ("/agreement", "agreement")],
        Role.ADMINISTRATOR: [("/agreement", "agreement"), ("/people", "people")],
    }[person.role]
