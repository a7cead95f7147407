"""Hospital exports in, `RawNote` and `PatientRecord` out."""

from client.intake.export import Export
from client.intake.fhir import read_fhir
from client.intake.jsonl import read_jsonl
from client.intake.tables import read_csv
from client.intake.taking import take_in

__all__ = ["Export", "read_csv", "read_fhir", "read_jsonl", "take_in"]
