"""How singers sing: vocal range and timbre, and whether they explain the mistakes."""
