"""What fairseq needs to be told about batches."""

import torch
from omegaconf import OmegaConf


def build_batches_anew(cfg) -> None:
    """Have batches built in every epoch: fairseq builds them once, seeded by the epoch it starts in, so that a restart
    would have others.

    Args:
        cfg: of a task, which reads it when it makes an iterator.
    """
    if OmegaConf.is_config(cfg):
        OmegaConf.set_struct(cfg, False)
    cfg.rebuild_batches = True


class DummyBatchesDoNotCount:
    """Mixin in front of a task: ``counts`` [B] of a batch that stands in for a missing one is all False, so that other
    ranks do not contrast with its rows. fairseq multiplies its loss by 0."""

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        if ignore_grad:
            sample = {**sample, "counts": torch.zeros_like(sample["id"], dtype=torch.bool)}
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
