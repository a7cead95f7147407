"""Before any page: where a request comes from, whose it is, and whether its form was made here.

Protects against: a page of another site that acts in an annotator's name (a token in every form, the Origin and Sec-Fetch-Site headers,
SameSite=Strict); a name of another host that is made to point here (DNS rebinding: only this machine's own names are answered); scripts,
frames, fonts or images from anywhere else (content-security policy); guessed passwords (see `people.py`); an error that shows what it
choked on.
Does not protect against: other programs of the same user on this machine; a browser extension that reads pages. The cookie is not marked
Secure, because the page is plain HTTP on the loopback interface; put a proxy with TLS before it to serve other machines.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from client.feedback.acts import Role, SignedIn, SignedOut, SignInRefused
from client.feedback.forms import Refused, field
from client.feedback.people import Person, Session, fits
from client.feedback.rendering import Page, Visit, pages_of
from client.feedback.texts import PAGE, languages, words
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


class NotSignedIn(Exception):
    pass


def guard(app: FastAPI, page: Page) -> None:
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
        if session is None:
            return None
        with page.store.locked():  # an account that was closed, or a password that was changed, from a terminal counts at once
            person = page.store.people.get(session.person_id)
        return None if person is None or person.closed or person.password != session.password else (person, session)

    @app.exception_handler(NotSignedIn)
    def to_the_door(request: Request, _: Exception) -> Response:
        late = "?expired=1" if request.cookies.get(COOKIE) else ""
        if request.headers.get("hx-request") == "true":
            return Response(status_code=200, headers={"HX-Redirect": f"/sign-in{late}"})
        return RedirectResponse(f"/sign-in{late}", status_code=303)

    def problem(request: Request, status: int, message: str) -> Response:
        known = signed_in(request)
        person, csrf = (None, "") if known is None else (known[0], known[1].csrf)
        return page.render("problem.html.j2", request, person=person, csrf=csrf, status=status, message=message)

    @app.exception_handler(Refused)
    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
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
            raise Refused(404, "not_found")
        return Response((PAGE / name).read_bytes(), media_type=STATIC[name])

    async def visit(request: Request) -> Visit:
        known = signed_in(request)
        if known is None:
            raise NotSignedIn
        form = await request.form(max_files=0, max_fields=200) if request.method == "POST" else FormData()
        if request.method == "POST" and not secrets.compare_digest(field(form, "csrf").encode(), known[1].csrf.encode()):
            raise Refused(403, "stale")
        return Visit(request, *known, form, page.clock())

    app.state.visit = visit


def allowed(app: FastAPI, *roles: Role) -> Any:
    """A visit of somebody with one of these roles."""

    def check(visit: Annotated[Visit, Depends(app.state.visit)]) -> Visit:
        if visit.person.role not in roles:
            raise Refused(403, "forbidden")
        return visit

    return Depends(check)


def sign_in(app: FastAPI, page: Page) -> None:
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
        if not held or not secrets.compare_digest(held.encode(), field(form, "csrf").encode()):
            raise Refused(403, "stale")
        return form

    @app.post("/sign-in")
    def enter(request: Request, form: Annotated[FormData, Depends(door_form)]) -> Response:
        t, now = words(page.language(request, None)), page.clock()
        name, password = field(form, "name"), field(form, "password")
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
        response = RedirectResponse(pages_of(person)[0][0], status_code=303)
        response.set_cookie(COOKIE, page.sessions.begin(person.person_id, person.password, now), httponly=True, samesite="strict", path="/")
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
        language, theme, size = field(form, "language"), field(form, "theme"), field(form, "size")
        taste = replace(
            taste,
            language=language if language in languages() else taste.language,
            theme=theme if theme in ("auto", "light", "dark") else taste.theme,
            size=size if size in ("normal", "large") else taste.size,
            shortcuts=field(form, "shortcuts") == "on",
        )
        page.store.save_person(replace(visit.person, taste=taste), None)
        here = field(form, "here")
        return RedirectResponse(
            here if here in {path for path, _ in pages_of(visit.person)} else pages_of(visit.person)[0][0], status_code=303
        )
