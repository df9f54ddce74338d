"""Encoders of text and images, one file each."""
