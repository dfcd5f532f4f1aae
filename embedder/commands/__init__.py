"""The commands of `app.py` that end in a run folder or a member."""
