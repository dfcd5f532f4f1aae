"""Lists of members that are known to work, what they cost, and the table that compares them."""
