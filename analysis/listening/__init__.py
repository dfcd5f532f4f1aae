"""What the listening page is made of."""
