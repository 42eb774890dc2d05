"""From the web to data/raw/ and data/processed/, with a card for each data set."""
