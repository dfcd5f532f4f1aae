"""Which singer is taken for which."""
