"""Trainings that can be killed and resumed: members, separator, detector, pre-training."""
