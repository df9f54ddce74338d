"""States of a frozen text encoder for a corpus, computed once: TriKD then trains without running it."""

from typing import List, Optional, Sequence

import numpy as np
import torch

from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.data.caption_dataset import pad_right
from mlvl_fairseq.data.corpus import SPLITS, Corpus
from mlvl_fairseq.data.corpus.text_states import CorpusStates
from mlvl_fairseq.data.corpus.vocabularies import GivenVocabulary
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrEncoder

BATCH = 64


def store_text_states(
    corpus: Corpus,
    tokenizer: Tokenizer,
    mte,
    max_length: int,
    device: str = "cpu",
    train_langs: Optional[Sequence[str]] = None,
) -> None:
    """Encode training and validation captions, which are binarized already.

    Args:
        corpus, tokenizer: the captions, and how they were cut.
        mte: what :func:`read_xlmr` reads.
        max_length: longest caption, ``<s>`` and ``</s>`` included. device: where to compute.
        train_langs: languages whose training captions are encoded; None: all. Validation captions always are.

    Raises:
        UserError: encoder, tokenizer and length do not fit together, or the corpus lacks a language.
        DataError: see :func:`read_xlmr`.
    """
    weights = read_xlmr(mte)
    weights.require_vocabulary(len(tokenizer))
    weights.require_positions(max_length)
    encoder = weights.encoder().to(device).eval()
    states = CorpusStates(GivenVocabulary(corpus, tokenizer), max_length, weights.fingerprint)
    bos, eos = tokenizer.bos, tokenizer.eos

    def encode(captions: List[List[int]]) -> List[np.ndarray]:
        return encode_states(encoder, [[bos, *ids[:-1][: max_length - 2], eos] for ids in captions])

    train, valid = SPLITS[:2]
    langs = {train: train_langs or corpus.languages(train), valid: corpus.languages(valid)}
    for lang in langs[train]:
        corpus.require(train, lang)
    for split in langs:
        for lang in langs[split]:
            states.write(split, lang, encode, weights.config.width, str(mte))


@torch.no_grad()
def encode_states(encoder: XlmrEncoder, captions: List[List[int]]) -> List[np.ndarray]:
    """Ids with BOS and EOS -> states [T, width] of each, float32; captions of like length share a batch."""
    device, states = encoder.embed_tokens.weight.device, [np.empty(0)] * len(captions)
    order = np.argsort([len(ids) for ids in captions], kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        tokens, ends = pad_right([captions[row] for row in rows], PAD)
        for row, end, own in zip(rows, ends, encoder(tokens.to(device)).cpu().numpy()):
            states[row] = own[: end + 1]
    return states
