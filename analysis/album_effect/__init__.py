"""How much of what embeddings find alike is the album."""
