"""How the members were trained."""
