"""Every command of the three: its help reads, it takes --json, and with it every end is one JSON object on standard output."""

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

import client.cli
import server.cli
import simulations.cli
from common.console import print_json, run_command
from common.errors import GateRefused

PROGRAMS = {"wardround": simulations.cli, "wardround-site": client.cli, "wardround-coordinator": server.cli}


def leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from leaves(inner, (*words, name))
    else:
        yield words, command


COMMANDS = {
    " ".join((program, *words)): (program, words, command)
    for program, module in PROGRAMS.items()
    for words, command in leaves(typer.main.get_command(module.app), ())
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a console script in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WARDROUND_SITE", raising=False)

    def call(program: str, *words: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [program, *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            PROGRAMS[program].main()
        captured = capsys.readouterr()
        return int(str(ended.value.code)), captured.out, captured.err

    return call


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_takes_json(name: str) -> None:
    command = COMMANDS[name][2]
    assert "--json" in {option for parameter in command.params for option in parameter.opts}
    for text in (command.help, *(p.help for p in command.params if isinstance(p, click.Option) and p.name != "help")):
        assert text, f"{name} has an option without a word of help"
        assert text[0].isupper() or text[0] in "`σ", text
        assert text.rstrip()[-1] in ".?", text


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_usage_is_one_object_with_json_and_none_without(run: Run, name: str) -> None:
    program, words, _ = COMMANDS[name]
    code, out, err = run(program, *words, "--json", "--no-such-option")
    assert (code, json.loads(out)["error"]["code"], out.count("\n")) == (2, "usage", 1)
    assert "--no-such-option" in err
    assert run(program, *words, "--no-such-option")[:2] == (2, "")


@pytest.mark.parametrize("name", [name for name, (_, _, command) in COMMANDS.items() if any(p.required for p in command.params)])
def test_a_path_that_is_not_there_is_refused_in_one_object(run: Run, name: str) -> None:
    """Every required word is a file or folder that does not exist; where that is what a command makes, it makes it."""
    program, words, command = COMMANDS[name]
    given = ["nowhere" for p in command.params if p.required and isinstance(p, click.Argument)]
    options = [word for p in command.params if p.required and isinstance(p, click.Option) for word in (p.opts[0], _some(p.type))]
    code, out, err = run(program, *words, *given, *options, "--json", *(["--yes"] if "yes" in {p.name for p in command.params} else []))
    found = json.loads(out)
    assert out.count("\n") == 1
    assert "Traceback" not in err
    assert (code, found.get("error", {}).get("code")) not in ((1, "fault"), (1, None)), err
    if code:
        assert found["error"]["reason"] in err.replace("\n", " ") or code == 2


def _some(kind: click.ParamType) -> str:
    return str(next(iter(kind.choices))) if isinstance(kind, click.Choice) else "nowhere"


def ended(app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["wardround", *words])
    with pytest.raises(SystemExit) as stopped:
        run_command(app, "wardround")  # type: ignore[arg-type]  # any callable ends the same way
    return int(str(stopped.value.code))


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (GateRefused("2 notes leak, above 1; look at them"), "gate", "2 notes leak, above 1; look at them"),
        (KeyboardInterrupt(), "interrupted", "stopped; run the same command again to continue"),
        (KeyError("maria lopez"), "fault", "a fault in the program: KeyError at test_console.py"),
        (
            OSError(errno.ENOSPC, "x", "maria lopez"),
            "storage",
            "the disk is full; free some space and run again (OSError (ENOSPC) at test_console.py",
        ),
        (OSError(errno.EPROTO, "maria lopez"), "fault", "a fault in the program: OSError (EPROTO) at test_console.py"),
    ],
)
def test_each_end_has_its_code_and_its_reason(
    error: BaseException, code: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(standalone_mode: bool) -> int:
        raise error

    assert ended(app, monkeypatch, "x", "--json") == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)["error"]
    assert found["code"] == code
    assert found["reason"].startswith(reason)
    assert captured.err == f"wardround: {found['reason']}\n"
    assert "lopez" not in captured.out + captured.err
    assert ended(app, monkeypatch, "x") == 1
    assert capsys.readouterr().out == ""


def test_a_number_that_json_cannot_hold_prints_nothing_of_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        print_json({"epsilon": float("inf")})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("words", [["budget", "--site", "ünï-ε", "--json"], ["init", "ünï-ε", "--name", "a"]])
def test_every_terminal_gets_its_words(tmp_path: Path, encoding: str, words: list[str]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    script = "from client.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == int("budget" in words), done
    assert b"Traceback" not in done.stderr
    if "--json" in words:
        assert "ünï-ε/site.toml" in json.loads(done.stdout)["error"]["reason"]


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "--json >&-", "--json >/dev/full"])
def test_closed_and_full_streams_end_without_a_traceback(tmp_path: Path, streams: str) -> None:
    script = f"'{sys.executable}' -c 'from client.cli import main; main()' budget --site nowhere {streams}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("words", [("budget", "--site"), ("init",), ("deidentify",), ("restore", "x.tar")])
def test_a_name_too_long_for_the_disk_is_said(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run("wardround-site", *words, "x" * 300, *(["y"] if words == ("deidentify",) else []), "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] != "fault", err


def test_a_reader_that_goes_away_gets_no_traceback() -> None:
    """As in `wardround compare … | head -1`."""
    script = "from common.console import run_command; run_command(lambda standalone_mode: print('x\\n' * 10**6), 'wardround')"
    program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert isinstance(program.stdout, io.BufferedReader)
    program.stdout.readline()
    program.stdout.close()
    assert program.stderr is not None
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait() == 1


SLOW = {"torch", "transformers", "spacy", "datasets", "opacus", "dp_accounting"}


@pytest.mark.parametrize("module", ["client.cli", "server.cli", "simulations.cli", "client.app"])
def test_a_command_starts_without_the_libraries_that_take_seconds(module: str) -> None:
    """The hospital's app too: under Flower each of a round's messages is a process of its own."""
    script = f"import sys, {module}; print(*sorted({SLOW} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
