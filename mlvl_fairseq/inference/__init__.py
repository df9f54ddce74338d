"""Trained and official models at work: encode captions and images, make teacher features, score retrieval."""

from mlvl_fairseq.inference.encoder import Encoder

__all__ = ["Encoder"]
