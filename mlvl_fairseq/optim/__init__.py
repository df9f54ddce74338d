"""Optimizers and schedules that fairseq lacks."""
