"""Scores from features, ranks and texts: pure functions on arrays."""
