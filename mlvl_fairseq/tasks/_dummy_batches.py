"""Batches that fairseq gives to ranks that have run out of data."""

import torch


class DummyBatchesDoNotCount:
    """Mixin in front of a task: ``counts`` [B] of a batch that stands in for a missing one is all False, so that other
    ranks do not contrast with its rows. fairseq multiplies its loss by 0."""

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        if ignore_grad:
            sample = {**sample, "counts": torch.zeros_like(sample["id"], dtype=torch.bool)}
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
