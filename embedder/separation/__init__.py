"""Vocals and backing of songs, and the separator that is trained on stems."""
