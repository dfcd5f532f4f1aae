"""The page that listens and its JSON API, over one trained system."""
