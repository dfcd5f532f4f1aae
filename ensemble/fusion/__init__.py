"""From experts to one answer: calibration, fusers, and how what is fitted is compared."""
