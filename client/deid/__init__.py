"""`RawNote` in, `CleanNote` out: nothing else ever reads a raw note."""
