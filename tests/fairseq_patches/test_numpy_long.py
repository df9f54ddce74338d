import numpy as np
import torch
from fairseq.data import Dictionary, LanguagePairDataset, TokenBlockDataset

SENTENCES = [torch.tensor([4, 5, 2]), torch.tensor([6, 2]), torch.tensor([4, 4, 4, 4, 2])]
LENGTHS = np.array([3, 2, 5])


def test_block_of_one_sentence():
    blocks = TokenBlockDataset(SENTENCES, LENGTHS, None, pad=1, eos=2, break_mode="eos")
    assert [block.tolist() for block in blocks] == [sentence.tolist() for sentence in SENTENCES]
    assert not hasattr(np, "compat"), "numpy itself must stay as it is"


def test_buckets_of_lengths():
    """Two sentences as long as the middle one, one as long as the longest."""
    words = Dictionary()
    pairs = LanguagePairDataset(SENTENCES, LENGTHS, words, SENTENCES, LENGTHS, words, num_buckets=2)
    assert pairs.bucketed_num_tokens.tolist() == [3, 3, 5]
