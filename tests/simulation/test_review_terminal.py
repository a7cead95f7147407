"""`wardround-site review` on a real terminal: keys, breaking off, going on, and nothing left on the screen."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

from client.deid.assurance.review import review_of
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from client.records import CleanNote, RawNote

STYLE = re.compile(rb"\x1b\[[0-9;]*m")
ERASE = b"\x1b[3J"
HIDDEN = "Quist\x1b[8mgaard"
"""A name whose second half a terminal would not show: SGR 8, concealed."""


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command: list[str]) -> None:
        ours, theirs = pty.openpty()
        self._screen = ours
        self._process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def until(self, text: bytes, seconds: float = 120.0) -> bytes:
        """All that appears up to and with `text`, colours and weights left out."""
        seen, deadline = b"", time.monotonic() + seconds
        while text not in (plain := STYLE.sub(b"", seen)):
            ready, _, _ = select.select([self._screen], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not appear within {seconds} s"
            try:
                seen += os.read(self._screen, 1)
            except OSError:  # the program has ended
                raise AssertionError(f"{text!r} did not appear: {seen.decode()}") from None
        return plain

    def press(self, key: str, seconds: float = 60.0) -> None:
        """As soon as the program reads single keys: what is typed before that is dropped when it begins to."""
        deadline = time.monotonic() + seconds
        while termios.tcgetattr(self._screen)[3] & termios.ICANON:
            assert time.monotonic() < deadline, f"the program reads no single keys after {seconds} s"
            time.sleep(0.01)
        os.write(self._screen, key.encode())

    def end(self) -> int:
        return self._process.wait(60)


def test_notes_are_read_one_key_each_and_wiped_and_the_review_goes_on_another_day(tmp_path: Path) -> None:
    folder = tmp_path / "north"
    with Site.create(folder, "north", HospitalPolicy(max_leak_upper_bound=1.0, max_review_upper_bound=1.0, max_quarantined=0.5)) as site:
        site.vault.ingest([RawNote(f"n{i}", f"p{i}", "raw") for i in range(3)])
        site.vault.put_notes([CleanNote(f"n{i}", f"p{i}", f"{HIDDEN} coughs for {i} days.") for i in range(3)])
    command = [sys.executable, "-m", "client.cli", "review", "--site", str(folder), "--sample", "3"]

    with Terminal(command) as first:
        shown = first.until(b"stop")
        assert b"note 1 of 3" in shown
        assert "Quist\ufffd[8mgaard coughs".encode() in shown, "the whole name is to be seen"
        first.press("x")  # no key of this page: the keys are shown again
        first.until(b"stop")
        first.press("c")
        assert ERASE in first.until(b"note 2 of 3")
        first.until(b"stop")
        first.press("q")
        assert ERASE in first.until(b"1 of 3 notes read")
        assert first.end() == 0

    with Terminal(command) as second:
        for number, key in ((1, "l"), (2, "c")):
            second.until(f"note {number} of 2".encode())
            second.until(b"stop")
            second.press(key)
        after = second.until(b"3 notes read, 1 held back")
        assert ERASE in after
        assert b"coughs" not in after[after.rindex(ERASE) :]
        assert second.end() == 0
    with Site.open(folder) as site:
        assert (review_of(site.vault).read, review_of(site.vault).leaking) == (3, 1)
