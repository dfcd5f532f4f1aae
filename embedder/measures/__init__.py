"""What pages show and no store holds: measured once on the songs themselves."""
