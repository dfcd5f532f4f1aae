"""Audio becomes embeddings here: data, networks, losses, training, and the stores they leave."""

__version__ = "0.2.0.dev0"
