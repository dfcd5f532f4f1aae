"""From audio files to batches of crops."""
