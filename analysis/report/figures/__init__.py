"""The deck's figures, drawn with matplotlib."""
