"""Where someone sings: the singing-voice detector, its training and its accuracy."""
