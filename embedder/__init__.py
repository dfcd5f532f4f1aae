"""Audio becomes embeddings here: data, networks, losses, training, and the stores they leave."""
