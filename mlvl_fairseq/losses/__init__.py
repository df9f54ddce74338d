"""Pure functions on tensors: every training objective, once."""

from mlvl_fairseq.losses.features import contrastive_loss, feature_mse
from mlvl_fairseq.losses.positives import POSITIVES, multi_positive_targets

__all__ = ["POSITIVES", "contrastive_loss", "feature_mse", "multi_positive_targets"]
