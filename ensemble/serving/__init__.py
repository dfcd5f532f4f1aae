"""Recordings are answered one at a time, from memory, by what was loaded once."""
