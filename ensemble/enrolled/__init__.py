"""Singers who were added without training."""
