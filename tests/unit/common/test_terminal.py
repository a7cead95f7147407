"""Bars on a terminal, one line a stage elsewhere, nothing on standard output."""

import io

import pytest

from common.terminal import Lines, progress_on


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_one_line_a_stage_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    with progress_on(out) as progress:
        progress.start("de-identify notes", 10)
        progress.advance(4)
        progress.advance()
        progress.note("3 quarantined")
        progress.start("sft", 2)
        progress.advance(2)
    first, second = out.getvalue().splitlines()
    assert first.startswith("de-identify notes: 5 of 10 in ")
    assert first.endswith(" s; 3 quarantined")
    assert second.startswith("sft: 2 in ")
    assert capsys.readouterr().out == ""


def test_the_time_of_a_stage_is_its_own() -> None:
    ticks = iter([10.0, 12.5])
    out = io.StringIO()
    lines = Lines(out, clock=lambda: next(ticks))
    lines.start("sft", 1)
    lines.finish()
    assert out.getvalue() == "sft: 0 of 1 in 2.5 s\n"


def test_a_terminal_sees_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with progress_on(out) as progress:
        progress.start("align the policy", 3)
        progress.advance(3)
        progress.note("KL 2.1")
        progress.start("evaluate", 5)
        progress.advance()
    shown = out.getvalue()
    assert "align the policy" in shown
    assert "3/3" in shown
    assert "KL 2.1" in shown
    assert "evaluate" in shown
    assert capsys.readouterr().out == ""


def test_a_failure_passes_through() -> None:
    out = io.StringIO()

    def fail() -> None:
        with progress_on(out) as progress:
            progress.start("sft", 1)
            raise ValueError

    with pytest.raises(ValueError):
        fail()
