"""Two engines for one description: `scratch`, written by hand, and `keras`."""
