"""The commands that draw what a run shows."""
