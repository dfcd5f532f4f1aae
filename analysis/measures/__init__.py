"""What pages show beyond predictions: figures computed from embeddings and measurements."""
