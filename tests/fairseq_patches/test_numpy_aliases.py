import numpy as np
import torch
from fairseq.modules.dynamic_crf_layer import DynamicCRF


def test_numpy_float():
    torch.manual_seed(0)
    crf = DynamicCRF(num_embedding=6, low_rank=2, beam_size=3)
    scores = crf(torch.randn(2, 4, 6), torch.randint(6, (2, 4)), torch.ones(2, 4, dtype=torch.bool))
    assert scores.shape == (2,) and torch.isfinite(scores).all()
    assert not hasattr(np, "float"), "numpy itself must stay as it is"
