"""Fronts of the ensemble's commands."""
