"""Who may label: names, roles, passwords, and sessions of those who signed in.

Protects against: passwords read from the disk (Argon2id, RFC 9106, in the sealed vault); guessing, by waits that double for a name and
a bound on failures of all names together; learning from the answer or its time whether a name exists; a session cookie read from the
disk or used after signing out (only its SHA-256 is kept, in memory), for too long, after idle time, or after the password was changed.
Does not protect against: a shared or watched password; somebody at an unlocked screen before the idle time is over.
"""

import hashlib
import json
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import argon2

from client.feedback.acts import Role
from client.feedback.settings import LabelSettings
from common.errors import PolicyRefused
from common.events import Handle

MIN_PASSWORD, MAX_PASSWORD = 12, 256
FREE_FAILURES = 4
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 900.0
FAILURES_A_MINUTE = 30
"""Over all names together: enough for a ward that mistypes, too few for a list of common passwords."""

_HASHER = argon2.PasswordHasher()
_AT_ONCE = threading.BoundedSemaphore(4)  # each hash takes 64 MiB


@dataclass(frozen=True, slots=True)
class Taste:
    """How somebody likes the page. `language` None means the site's."""

    language: str | None = None
    theme: str = "auto"
    size: str = "normal"
    shortcuts: bool = True


@dataclass(frozen=True, slots=True, repr=False)
class Person:
    person_id: Handle
    name: str
    role: Role
    password: str
    closed: bool = False
    taste: Taste = Taste()

    def __repr__(self) -> str:
        return f"Person({self.role})"

    @property
    def labels(self) -> bool:
        return self.role is not Role.ADMINISTRATOR


def new_person(name: str, role: Role, password: str) -> Person:
    """Raises PolicyRefused for a name or password that will not do."""
    clean = " ".join(name.split())
    if not 1 <= len(clean) <= 80:
        raise PolicyRefused(f"a name has 1 to 80 characters; this one has {len(clean)}")
    return Person(Handle.draw(), clean, role, hashed(password, clean))


def hashed(password: str, name: str) -> str:
    """Argon2id with a random salt. Raises PolicyRefused for a password that is too short, too long, or the name."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise PolicyRefused(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; this one has {len(password)}")
    if password.casefold() in (name.casefold(), name.casefold() * 2) or len(set(password)) < 5:
        raise PolicyRefused("this password is too easy to guess; take several words that do not belong together")
    with _AT_ONCE:
        return _HASHER.hash(password)


_NOBODYS = _HASHER.hash(secrets.token_hex(16))
"""Checked when nobody has the name that was tried, so that the answer takes as long."""


def fits(person: Person | None, password: str) -> bool:
    """Whether the password is this person's. Takes the same time for a person who does not exist or is closed."""
    with _AT_ONCE:
        try:
            _HASHER.verify(_NOBODYS if person is None else person.password, password[: MAX_PASSWORD + 1])
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
    return person is not None and not person.closed


def pack_person(person: Person) -> bytes:
    t = person.taste
    return json.dumps(
        [person.person_id, person.name, person.role, person.password, person.closed, [t.language, t.theme, t.size, t.shortcuts]]
    ).encode()


def unpack_person(plain: bytes) -> Person:
    person_id, name, role, password, closed, taste = json.loads(plain)
    return Person(Handle(person_id), name, Role(role), password, closed, Taste(*taste))


# -- waiting after failures --------------------------------------------------------------------------------------------


class Throttle:
    """How long somebody must wait before the next try. Kept in memory: a restart forgets, and asks for the administrator's hand."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, datetime]] = {}
        self._all: deque[datetime] = deque()

    def wait_seconds(self, name: str, now: datetime) -> float:
        """0 when a try may be made now."""
        while self._all and now - self._all[0] > timedelta(minutes=1):
            self._all.popleft()
        crowd = 60 - (now - self._all[0]).total_seconds() if len(self._all) >= FAILURES_A_MINUTE else 0.0
        count, last = self._failures.get(_key(name), (0, now))
        own = 0.0
        if count > FREE_FAILURES:
            own = min(FIRST_WAIT_SECONDS * 2 ** min(count - FREE_FAILURES - 1, 20), LONGEST_WAIT_SECONDS) - (now - last).total_seconds()
        return max(0.0, own, crowd)

    def failed(self, name: str, now: datetime) -> None:
        self._failures[_key(name)] = (self._failures.get(_key(name), (0, now))[0] + 1, now)
        self._all.append(now)
        if len(self._failures) > 10_000:  # made-up names must not fill the memory
            self._failures.pop(next(iter(self._failures)))

    def succeeded(self, name: str) -> None:
        self._failures.pop(_key(name), None)


def _key(name: str) -> str:
    return hashlib.sha256(" ".join(name.split()).casefold().encode("utf-8", "surrogatepass")).hexdigest()


# -- sessions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """`csrf` must come back with every form: another site's page can send the cookie along, and cannot know this.

    password    the hash that was signed in with: with another one the session is over
    """

    person_id: Handle
    password: str
    csrf: str
    begun: datetime
    seen: datetime

    def __repr__(self) -> str:
        return "Session(<hidden>)"


class Sessions:
    """Those who are signed in. Lost with the process: everybody signs in again and goes on where they were."""

    def __init__(self, settings: LabelSettings, draw: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> None:
        self._idle, self._longest = timedelta(minutes=settings.idle_minutes), timedelta(hours=settings.session_hours)
        self._draw = draw
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, person_id: Handle, password: str, now: datetime) -> str:
        """The cookie of a new session: always a fresh one, so that nobody can be signed in under a cookie that another knows."""
        cookie = self._draw()
        with self._lock:
            self._open = {key: session for key, session in self._open.items() if self._holds(session, now)}
            self._open[_digest(cookie)] = Session(person_id, password, self._draw(), now, now)
        return cookie

    def find(self, cookie: str | None, now: datetime) -> Session | None:
        """The session of a cookie, which is thereby in use; None when there is none, or its time is over."""
        if not cookie:
            return None
        with self._lock:
            session = self._open.get(_digest(cookie))
            if session is None or not self._holds(session, now):
                self._open.pop(_digest(cookie), None)
                return None
            session = self._open[_digest(cookie)] = replace(session, seen=now)
            return session

    def end(self, cookie: str | None) -> None:
        with self._lock:
            self._open.pop(_digest(cookie or ""), None)

    def end_all(self, person_id: Handle) -> None:
        """Of one person, whose account is closed or whose password changed."""
        with self._lock:
            self._open = {key: session for key, session in self._open.items() if session.person_id != person_id}

    def _holds(self, session: Session, now: datetime) -> bool:
        return now - session.seen <= self._idle and now - session.begun <= self._longest


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()
