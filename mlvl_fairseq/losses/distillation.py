"""Losses that pull a student's features towards a teacher's."""

import torch.nn.functional as F
from torch import Tensor


def feature_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error over the dimensions of un-normalised features [B, D], **summed** over rows, in float32.

    Divided by B it is the cross-lingual loss of Yang et al. 2024, equation 2.
    """
    return F.mse_loss(student.float(), teacher.float(), reduction="sum") / student.shape[1]
