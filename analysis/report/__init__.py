"""The deck that is handed in: the same slides as a PDF and for PowerPoint."""
