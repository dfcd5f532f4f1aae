"""How accuracy falls when songs are degraded."""
