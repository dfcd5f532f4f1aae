"""What prediction needs of a run, in one folder or zip."""
