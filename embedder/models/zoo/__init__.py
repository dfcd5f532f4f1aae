"""Architectures that the comparison of papers needs beside the main ones."""
