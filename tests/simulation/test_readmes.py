"""What the READMEs show is true: every example runs as it stands there, and every file, command and make target they name is there."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import tomli_w
import typer

import client.cli
import server.cli
import simulations.cli
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from common.config import load_study

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("common", "client", "server", "simulations")
READMES = ("README.md", *(path.relative_to(ROOT).as_posix() for room in ROOMS for path in sorted((ROOT / room).rglob("README.md"))))
SMALLER = ["simulation.patients=3", "simulation.declared_units=3", "simulation.declared_preference_units=3", "simulation.pairs=4"]
PROGRAMS = {"wardround": simulations.cli.app, "wardround-site": client.cli.app, "wardround-coordinator": server.cli.app}


def examples(readme: str) -> list[str]:
    """Python between fences, and indented paragraphs that begin with an import."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    fenced = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)
    return [*fenced, *(re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in indented if re.match(r"\s+(from|import) ", block))]


EXAMPLES = {f"{readme} {number}": code for readme in READMES for number, code in enumerate(examples(readme), 1)}


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples find: a small smoke.toml, a site with an export, and the run that the front page's example makes."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "configs").mkdir()
    small = load_study(ROOT / "configs" / "smoke.toml", SMALLER)
    (folder / "configs" / "smoke.toml").write_text(tomli_w.dumps(small.model_dump(mode="json", exclude_none=True)))
    Site.create(folder / "north", "north", HospitalPolicy(max_leak_upper_bound=1.0)).close()
    (folder / "export").mkdir()
    (folder / "export" / "notes.jsonl").write_text('{"id": "n1", "patient_id": "p1", "text": "Zebulon Quistgaard has a cough."}\n')
    with inside(folder):
        run_code("README.md 1")
        (Path("runs") / "demo").symlink_to("smoke")
    return folder


def run_code(name: str) -> None:
    exec(compile(EXAMPLES[name], name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "README.md 1"])
def test_the_example_runs(workshop: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with inside(workshop):
        run_code(name)
    assert capsys.readouterr().out.strip()


def test_the_front_page_s_example_leaves_a_run(workshop: Path) -> None:
    assert (workshop / "runs" / "smoke" / "report.html").exists()
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("readme", READMES)
def test_what_a_readme_names_is_there(readme: str) -> None:
    text, room = (ROOT / readme).read_text(encoding="utf-8"), (ROOT / readme).parent
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (room / link).exists(), link
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets
    for program, words in re.findall(r"\b(wardround(?:-site|-coordinator)?) ((?:[a-z]+ ?){1,2})", text):
        command: click.Command = typer.main.get_command(PROGRAMS[program])
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, f"`{program} {words}` in {readme}"
            command = command.commands[word]


@pytest.mark.parametrize("readme", READMES[1:])
def test_every_file_of_the_reading_order_is_there(readme: str) -> None:
    """The first column of a package's tables names its files, each somewhere below the package."""
    room = (ROOT / readme).parent
    below = {"/" + path.relative_to(room).as_posix() for path in room.rglob("*") if "__pycache__" not in path.parts}
    rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", (ROOT / readme).read_text(encoding="utf-8"), re.MULTILINE)
    named = [name.rstrip("/") for row in rows for name in re.findall(r"`([\w./-]+(?:/|\.py|\.toml|\.json))`", row)]
    assert len(named) > 3
    missing = [name for name in named if not any(path.endswith("/" + name) for path in below)]
    assert not missing
