"""The t-SNE maps: songs and segments in the plane."""
