"""A whole federation on one machine: synthetic hospitals, real public data, the study from note to report."""
