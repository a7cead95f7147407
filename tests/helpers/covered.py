"""What the rules of tier 1 cover of a sentence."""

import re
from collections.abc import Sequence


def uncovered_and_touched(text: str, identifiers: Sequence[str]) -> tuple[list[str], list[str]]:
    """(identifiers of which a letter or digit is not covered, other words of which one is), by the rules alone, without the network."""
    from client.deid.detectors import DETECTORS
    from client.deid.scan import Scan

    scan, covered, wanted, uncovered = Scan(text), bytearray(len(text)), bytearray(len(text)), []
    for detector in DETECTORS:
        for span in detector.find(scan):
            covered[span.start : span.end] = b"\1" * (span.end - span.start)
    for identifier in identifiers:
        start = text.index(identifier)
        end = start + len(identifier)
        wanted[start:end] = b"\1" * len(identifier)
        if not all(covered[i] for i in range(start, end) if text[i].isalnum()):
            uncovered.append(identifier)
    words = re.finditer(r"\w+", text)
    return uncovered, [m.group() for m in words if any(covered[m.start() : m.end()]) and not any(wanted[m.start() : m.end()])]
