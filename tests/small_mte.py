"""A small untrained text encoder in the file of a real one."""

import torch

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, write_xlmr
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig, XlmrEncoder


def write_small_mte(path, vocab_size, width, layers=1, seed=0):
    """Two heads, a feed-forward half of twice the width, 100 positions; gives `path`."""
    torch.manual_seed(seed)
    config = XlmrConfig(vocab_size, layers, width, 2 * width, 2, max_positions=100)
    tensors = XlmrEncoder(config).state_dict()
    tensors.pop("version")
    write_xlmr(XlmrWeights(config, tensors, "new"), path)
    return path
