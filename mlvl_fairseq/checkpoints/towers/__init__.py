"""Weights to start single towers from, one kind of tower a file: names of public files to a tower's own."""

from mlvl_fairseq.checkpoints.towers.base import load_tower, register_tower_weights

__all__ = ["load_tower", "register_tower_weights"]
