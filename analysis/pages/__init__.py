"""One HTML page a module: each has a function from `RunData` to the text of its page."""
