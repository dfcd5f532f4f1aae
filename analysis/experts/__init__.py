"""How sure and how different the experts are, and what putting them together gains."""
