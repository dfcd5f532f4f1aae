"""The commands over the ensemble: parse, call one function, print."""
