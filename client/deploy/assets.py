"""The data files that a bundle cannot carry: they come from the installed wheel, and must be the ones the bundle was made with.

client/assets.json   in wheel and bundle alike: for every file below client/ and common/ that Flower does not carry, its SHA-256

Protects against: new code that runs on old data files, or the other way round, and a data file that was changed after it was installed.
Does not protect against: a changed Python environment; the wheelhouse's checksums are for that.

python -m client.deploy.assets          writes the list anew, in a checkout
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from client.deploy.bundles import Bundle
from common.errors import ConfigError

ASSETS = "client/assets.json"
CARRIED = frozenset({".py", ".toml", ".json", ".jsonl", ".yaml", ".yml", ".md"})
ROOMS = ("client", "common")
BUNDLE_MARK = ".info"
"""A folder that only an unpacked bundle has."""


def manifest(root: Path) -> dict[str, str]:
    """SHA-256 by name of every file below the rooms of `root` that a bundle does not carry."""
    found = {}
    for room in ROOMS:
        for path in sorted((root / room).rglob("*")):
            if path.is_file() and path.suffix not in CARRIED and "__pycache__" not in path.parts:
                found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def require_assets(bundle: Bundle) -> None:
    """Raises ConfigError unless the installed Wardround holds exactly the data files that this bundle expects."""
    _compare(_parsed(bundle.files.get(ASSETS, b"")), manifest(installed_root()))


@cache
def require_own_assets() -> None:
    """The same, from within a bundle that runs: asked by the ClientApp before its first message. Raises ConfigError."""
    root = Path(__file__).resolve().parents[2]
    if not (root / BUNDLE_MARK).exists():
        return  # a checkout or an installed wheel, whose data files lie beside its code
    try:
        expected = (root / ASSETS).read_bytes()
    except OSError:
        expected = b""
    _compare(_parsed(expected), manifest(installed_root()))


def installed_root() -> Path:
    """The folder in which the installed Wardround lies: site-packages, or the checkout of an editable installation."""
    try:
        installed = metadata.distribution("wardround")
    except metadata.PackageNotFoundError:
        raise ConfigError("Wardround is not installed here; install its wheel in this Python environment") from None
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(unquote(urlsplit(origin["url"]).path))
    return Path(str(installed.locate_file("")))


def _compare(expected: Mapping[str, str], present: Mapping[str, str]) -> None:
    differing = sorted(name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name))
    if differing:
        raise ConfigError(
            f"{len(differing)} data files of the installed Wardround are not the bundle's, `{differing[0]}` among them; "
            "install the wheel of the same release as the bundle, then approve again"
        )


def _parsed(data: bytes) -> dict[str, str]:
    try:
        tree = json.loads(data)
    except ValueError:
        tree = None
    if not isinstance(tree, dict) or not all(isinstance(value, str) for value in tree.values()):
        raise ConfigError("the bundle has no list of data files; it was built by another release, ask the coordinator for a new one")
    return tree


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2]
    (here / ASSETS).write_text(json.dumps(manifest(here), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"{here / ASSETS}: {len(manifest(here))} files\n")
