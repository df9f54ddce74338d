"""Kinds of models that can encode, one a file."""
