"""Stores and predictions become pages here. No torch."""
