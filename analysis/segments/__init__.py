"""What members say of each segment of a song."""
