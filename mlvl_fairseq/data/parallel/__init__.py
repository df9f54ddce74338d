"""Parallel text for translation in many directions: what fairseq-preprocess writes, sampled and batched."""

from mlvl_fairseq.data.parallel.dataset import ParallelDataset
from mlvl_fairseq.data.parallel.directions import Direction, find_directions, load_dictionaries, parse_directions
from mlvl_fairseq.data.parallel.sentences import SentenceOptions, Sentences, load_direction, sources_for_inference
from mlvl_fairseq.data.sampling import DirectionSampler

__all__ = [
    "Direction",
    "DirectionSampler",
    "ParallelDataset",
    "SentenceOptions",
    "Sentences",
    "find_directions",
    "load_dictionaries",
    "load_direction",
    "parse_directions",
    "sources_for_inference",
]
