"""Exact retrieval ranks, recalls with signatures, continual-learning metrics and reports."""
