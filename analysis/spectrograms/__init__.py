"""What three seconds of each singer look like to a member."""
