"""Every message that leaves a simulated hospital, searched for what was planted in its notes and written down.

RUN/messages.jsonl holds one line a message: site, round, bytes, digest, and how many planted values it held (0 is the
promise). A message that a resumed run sends again with the same bytes stands there once.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import StorageError
from common.storage import storage_errors
from server.evaluate.leaks import LeakSearch

MESSAGES = "messages.jsonl"


@dataclass(frozen=True, slots=True)
class Sent:
    """One message. `group` is Flower's: `line/round/attempt`, or `hello`. `kinds` counts planted values found in it, by class."""

    site: str
    group: str
    bytes: int
    digest: str
    kinds: dict[str, int]


class Outgoing:
    """Give its `record` to the grid. Opens the list of an earlier process, so that a resumed run goes on with it."""

    def __init__(self, run: Path, search: LeakSearch) -> None:
        self.path = run / MESSAGES
        self._search = search
        self._sent = {(m.site, m.group, m.digest): m for m in _read(self.path)}

    def record(self, site: str, group: str, data: bytes) -> None:
        """Search one message and append its line, unless the same bytes of the same round stand there already."""
        key = (site, group, hashlib.sha256(data).hexdigest()[:16])
        if key in self._sent:
            return
        message = Sent(site, group, len(data), key[2], self._search.count(data))
        with storage_errors(self.path, "write the list of messages"), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(message)) + "\n")
        self._sent[key] = message

    def messages(self) -> list[Sent]:
        return list(self._sent.values())


def _read(path: Path) -> list[Sent]:
    """The lines of an earlier process; a last line without its line feed was cut by a kill and is dropped from the file."""
    if not path.exists():
        return []
    with storage_errors(path, "read the list of messages"):
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole, encoding="utf-8")
    found = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            found.append(Sent(**json.loads(line)))
        except (ValueError, TypeError):
            raise StorageError(f"{path}, line {number}: not a message; remove the line or start the run anew") from None
    return found
