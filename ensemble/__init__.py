"""Embeddings become predictions here: index, calibration, fusion. No torch."""
