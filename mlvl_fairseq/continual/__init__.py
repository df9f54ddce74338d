"""Continual language learning: what a method adds to plain fairseq training."""
