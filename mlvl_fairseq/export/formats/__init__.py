"""Formats of exported models: one a file, found by being there."""
