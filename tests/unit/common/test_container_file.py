"""The container files of both wings, read by a strict parser: what a reviewer of an image would ask. No engine builds them here."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from common.units import containerfile
from server.deploy.wheelhouse import REQUIREMENTS, SUMS
from tests.helpers.containerfile import Instruction, parse
from tests.helpers.deployment import ROOT

SITE = ("wardround-site", "join", "--site", "/data")
COORDINATOR = ("wardround-coordinator", "up", "--deployment", "/data")


@pytest.fixture(params=["site", "coordinator"])
def file(request: pytest.FixtureRequest) -> list[Instruction]:
    site = request.param == "site"
    return parse(containerfile(packages="" if site else "nginx-light", command=SITE if site else COORDINATOR, port=None if site else 8443))


def named(file: list[Instruction], name: str) -> list[Instruction]:
    return [instruction for instruction in file if instruction.name == name]


def test_it_begins_from_one_named_image_with_this_python(file: list[Instruction]) -> None:
    assert file[0].name == "FROM"
    assert [i.argument for i in named(file, "FROM")] == [
        f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim-bookworm"
    ]


def test_every_step_is_a_shell_command_that_parses(file: list[Instruction], tmp_path: Path) -> None:
    steps = named(file, "RUN")
    assert len(steps) == 2
    for step in steps:
        script = tmp_path / "step.sh"
        script.write_text(step.argument)
        checked = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert " ; " not in step.argument, "a step that fails must fail the build"


def test_only_checked_wheels_get_in(file: list[Instruction]) -> None:
    install = named(file, "RUN")[1]
    assert install.flags == {"mount": "type=bind,source=wheelhouse,target=/wheelhouse"}
    assert install.argument.index(f"sha256sum --check --strict --quiet {SUMS}") < install.argument.index("pip install")
    for option in ("--no-index", "--no-deps", "--require-hashes", f"-r {REQUIREMENTS}"):
        assert option in install.argument
    for way_in in ("curl", "wget", "http:", "https:", "git ", "ADD"):
        assert all(way_in not in i.argument for i in file[1:]), way_in


def test_it_runs_one_of_our_programs_as_nobody_in_particular(file: list[Instruction]) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    names = [i.name for i in file]
    assert names.index("USER") < names.index("ENTRYPOINT") == len(names) - 1
    assert [i.argument for i in named(file, "USER")] == ["wardround"]
    assert "useradd --system --uid 10001" in named(file, "RUN")[0].argument
    (entry,) = named(file, "ENTRYPOINT")
    assert entry.words[0] in scripts
    assert entry.words[-1] == named(file, "VOLUME")[0].argument == "/data"
    assert [i.argument for i in named(file, "EXPOSE")] == (["8443"] if "coordinator" in entry.words[0] else [])


@pytest.mark.parametrize("text", ["RUM x\n", "RUN\n", "RUN a \\", "FROM x\nENTRYPOINT sh -c up\n"])
def test_the_parser_is_strict(text: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        _ = [i.words for i in parse(text) if i.name == "ENTRYPOINT"]
