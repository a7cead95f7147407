"""What stands behind the gate: planted identities, bounds, the review by people, the token, the attestation."""
