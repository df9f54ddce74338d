"""Pure functions on tensors: every training objective, once."""

from mlvl_fairseq.losses.features import POSITIVES, contrastive_loss, feature_mse, multi_positive_targets

__all__ = ["POSITIVES", "contrastive_loss", "feature_mse", "multi_positive_targets"]
