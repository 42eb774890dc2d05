"""One network, described once, trained by two engines."""
