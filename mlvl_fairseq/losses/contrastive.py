"""The contrastive loss of every family here: softmax over similarities, with one or several positives a row."""

import torch.nn.functional as F
from torch import Tensor

from mlvl_fairseq.losses.gather import gather_with_grad


def multi_positive_targets(query_ids: Tensor, key_ids: Tensor) -> Tensor:
    """Target distribution [Q, K]: uniform over the keys that carry the query's id (Yang et al. 2024, section 3.3)."""
    same = (query_ids[:, None] == key_ids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def contrastive_loss(text: Tensor, image: Tensor, temperature: Tensor, ids: Tensor, gather: bool = False) -> Tensor:
    """Symmetric cross-modal contrastive loss, **summed** over the rows of this rank.

    Args:
        text, image: [B, D] features, not normalised; row i of both belongs together.
        temperature: scalar that divides the cosines.
        ids: [B] image ids; rows with the same id are positives of each other.
        gather: contrast with the rows of all ranks. Divided by the number of rows of all ranks, the sum over ranks is
            the loss of one process with all rows, gradients included; each rank computes only its own rows.

    Returns:
        scalar, ``0.5 * (sum of text-to-image rows + sum of image-to-text rows)``, in float32.
    """
    text, image = F.normalize(text.float(), dim=-1), F.normalize(image.float(), dim=-1)
    all_text, all_image = (gather_with_grad(text), gather_with_grad(image)) if gather else (text, image)
    all_ids = gather_with_grad(ids) if gather else ids
    targets = multi_positive_targets(ids, all_ids)
    text_to_image = F.cross_entropy(text @ all_image.t() / temperature, targets, reduction="sum")
    image_to_text = F.cross_entropy(image @ all_text.t() / temperature, targets, reduction="sum")
    return 0.5 * (text_to_image + image_to_text)
