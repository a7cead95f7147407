"""Hospital exports in, `RawNote` and `PatientRecord` out."""
