"""Torch building blocks, free of fairseq."""
