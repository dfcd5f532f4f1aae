"""The commands that prepare, separate and train: parse, call one function, print."""
