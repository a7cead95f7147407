"""Container files read by a strict parser, where no engine is there to build them."""

import json
import re
from dataclasses import dataclass

INSTRUCTIONS = ("FROM", "RUN", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "ENTRYPOINT")
_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")


@dataclass(frozen=True)
class Instruction:
    """One line of a container file, its continuations joined; `words` of an exec form."""

    name: str
    flags: dict[str, str]
    argument: str

    @property
    def words(self) -> list[str]:
        found = json.loads(self.argument)
        assert isinstance(found, list) and all(isinstance(word, str) for word in found), f"{self.name}: no exec form"  # noqa: PT018  # one thought
        return found


def parse(text: str) -> list[Instruction]:
    """Every instruction in order. An unknown one, a line that is none, or a continuation without an end is an error."""
    joined = re.sub(r"\\\n", " ", "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#")))
    found = []
    for line in filter(str.strip, joined.splitlines()):
        assert not line.endswith("\\"), f"continued into nothing: {line}"
        name, _, rest = line.partition(" ")
        assert name in INSTRUCTIONS, f"no instruction: {line}"
        flags = {}
        while match := _FLAG.match(rest):
            flags[match[1]], rest = match[2], rest[match.end() :]
        assert rest.strip(), f"{name} without an argument"
        found.append(Instruction(name, flags, rest.strip()))
    return found
