"""What a privacy officer gets to read about one data set: the 18 classes in order, the counts, the residual risk, and what nobody checked.

Built from the gate's token and the vault, written beside them as `attestation.md` and `attestation.json`; both hold counts and no text.

Protects against: taking the gate's figures for more than they are.
Does not protect against: anything by itself; it reports.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.deid.assurance.token import GateToken
from client.deid.pipeline import dates_of, report
from client.deid.spans import Kind
from client.deid.surrogates import Dates
from client.hospital.site import Site
from common.storage import write_atomic

ATTESTATION = "attestation"

CLASSES: tuple[tuple[str, str, tuple[Kind, ...], str], ...] = (
    ("A", "Names", (Kind.NAME,), ""),
    ("B", "Geographic subdivisions smaller than a state", (Kind.LOCATION, Kind.ORGANIZATION), "places of care and employers included"),
    ("C", "Elements of dates except year; ages over 89", (Kind.DATE, Kind.AGE), ""),
    ("D", "Telephone numbers", (Kind.PHONE,), "with (E)"),
    ("E", "Fax numbers", (), "counted with (D): they look alike"),
    ("F", "Electronic mail addresses", (Kind.EMAIL,), ""),
    ("G", "Social security numbers", (Kind.SSN,), ""),
    ("H", "Medical record numbers", (Kind.MRN,), ""),
    ("I", "Health plan beneficiary numbers", (Kind.HEALTH_PLAN,), ""),
    ("J", "Account numbers", (Kind.ACCOUNT,), ""),
    ("K", "Certificate and license numbers", (Kind.LICENSE,), ""),
    ("L", "Vehicle identifiers and license plates", (Kind.VEHICLE,), ""),
    ("M", "Device identifiers and serial numbers", (Kind.DEVICE,), ""),
    ("N", "Web addresses (URL)", (Kind.URL,), ""),
    ("O", "Internet protocol addresses", (Kind.IP,), ""),
    ("P", "Biometric identifiers", (), "not text; their numbers are counted with (R)"),
    ("Q", "Full-face photographs and comparable images", (), "not text; names of picture files are counted with (R)"),
    ("R", "Any other unique identifying number, characteristic or code", (Kind.ID,), "numbers and codes; characteristics in words are not looked for"),
)  # fmt: skip
"""45 CFR 164.514(b)(2)(i) in its order: letter, class, the kinds that count for it, a remark."""

NOT_CHECKED = (
    "identifying circumstances told in words (a profession, an event in the news, a rare disease together with a place)",
    "images, scans, sound, and text inside attached files",
    "languages other than English, Spanish and German",
    "whether the hospital's index of patients was complete; what it does not hold was looked for by patterns, lists and a statistical model alone",
    "actual knowledge of somebody at the hospital that what is left could identify a patient, 164.514(b)(2)(ii)",
)
IS_NOT = (
    "This is a measurement, not a certificate. It is not an expert determination under 45 CFR 164.514(b)(1), not legal advice, and it does not "
    "say that the data set complies with HIPAA, GDPR or any other law. The figures hold for the data set whose digest the gate signed, on the "
    "day it was signed."
)


@dataclass(frozen=True, slots=True)
class Attestation:
    """Counts by class of 164.514(b)(2)(i), the gate's figures, and what was not looked at."""

    site: str
    written: str
    token: GateToken
    dates: Dates
    replaced: tuple[tuple[str, str, int | None, str], ...]
    held_back: dict[str, int]

    @property
    def safe_harbor_dates(self) -> bool:
        return self.dates is Dates.YEAR_ONLY

    def body(self) -> dict[str, object]:
        token = asdict(self.token)
        return {
            "site": self.site,
            "written": self.written,
            "gate": {name: token[name] for name in token if name not in ("site",)},
            "dates": self.dates.value,
            "dates_as_safe_harbor": self.safe_harbor_dates,
            "classes": [
                {"letter": letter, "class": name, "replaced": count, "remark": remark} for letter, name, count, remark in self.replaced
            ],
            "held_back": self.held_back,
            "not_checked": list(NOT_CHECKED),
            "is_not": IS_NOT,
        }

    def page(self) -> str:
        """The same for people, in Markdown."""
        token = self.token
        lines = [
            f"# De-identification of site {self.site}",
            "",
            f"Written {self.written}. The gate was held {token.issued} and its token is valid until {token.expires}.",
            "",
            IS_NOT,
            "",
            "| 164.514(b)(2)(i) | class | replaced | remark |",
            "|---|---|---|---|",
            *(f"| ({letter}) | {name} | {'–' if count is None else count} | {remark} |" for letter, name, count, remark in self.replaced),
            "",
            "## What is left",
            "",
            f"- notes released: {token.notes}; held back: {token.quarantined} ({_listed(self.held_back)})",
            f"- released notes in which an identifier of the hospital's index was found again: {token.leaking}; at most {token.leak_upper_bound:.2%} "
            "of the notes hold one (Clopper and Pearson, one-sided 95 %)",
            f"- planted identifiers that came out: {token.survived} of {token.planted}",
            self._reviewed(),
            f"- preferences looked at: {token.preferences}; they were read like notes, and those with an identifier were refused",
            self._dates(),
            "",
            "## What was not checked",
            "",
            *(f"- {item}" for item in NOT_CHECKED),
            "",
        ]
        return "\n".join(lines)

    def _reviewed(self) -> str:
        token = self.token
        if not token.reviewed:
            return "- read by people: none; run `wardround-site review` for a bound on what neither index nor detectors know"
        return (
            f"- read by people: {token.reviewed} notes drawn at random, {token.review_leaking} with an identifier; at most "
            f"{token.review_upper_bound:.2%} of the notes hold one (Clopper and Pearson, one-sided 95 %)"
        )

    def _dates(self) -> str:
        if self.safe_harbor_dates:
            return "- dates: the year is kept, all other elements are removed, as Safe Harbor asks; the time of day stands"
        return "- dates: SHIFTED, not removed. This is NOT Safe Harbor; shifted dates usually lean on an expert determination"


def attest(token: GateToken, replaced: dict[str, int], held_back: dict[str, int], dates: Dates, *, now: datetime) -> Attestation:
    """The attestation of what a token speaks of. `replaced` counts identifiers by kind, `held_back` notes by reason."""
    rows = tuple(
        (letter, name, sum(replaced.get(kind.value, 0) for kind in kinds) if kinds else None, remark)
        for letter, name, kinds, remark in CLASSES
    )
    return Attestation(token.site, now.isoformat(timespec="seconds"), token, dates, rows, dict(held_back))


def write_attestation(site: Site, token: GateToken, *, now: datetime | None = None) -> Path:
    """The attestation of a site's data set as its token describes it: two files, each whole or not at all. Returns the page's path."""
    figures = report(site.vault)
    attestation = attest(token, dict(figures.identifiers), dict(figures.quarantined), dates_of(site.vault), now=now or datetime.now(UTC))
    write_atomic(site.folder / f"{ATTESTATION}.json", json.dumps(attestation.body(), indent=1, ensure_ascii=False) + "\n")
    write_atomic(site.folder / f"{ATTESTATION}.md", attestation.page())
    return site.folder / f"{ATTESTATION}.md"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items()) or "none"
