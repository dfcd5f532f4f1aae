"""Whether two recordings are of one singer."""
