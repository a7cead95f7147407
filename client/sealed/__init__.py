"""What a hospital keeps, sealed at rest."""
