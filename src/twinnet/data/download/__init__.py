"""Downloads: sources, transport, cache, and synthetic data if no source answers."""
