"""What every room may know: configuration, networks, problems, histories and paths."""
