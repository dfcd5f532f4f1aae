"""From waveforms to unit embeddings."""
