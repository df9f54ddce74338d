"""TriKD (Chen et al. 2023): a multilingual text encoder and CLIP's image tower, each with its projector."""

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import torch
from torch import nn

from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.checkpoints.source import WeightSource
from mlvl_fairseq.checkpoints.trikd import FrozenFiles, TrikdWeights, is_trikd_checkpoint, read_trikd
from mlvl_fairseq.data.caption_dataset import pad_right
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import Encoder, register_kind
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrEncoder
from mlvl_fairseq.modules.x_projector import CProjector, XProjector


class ProjectedTower(nn.Module):
    """An image tower, or a head on given features, with the C-projector behind it."""

    def __init__(self, tower: nn.Module, projector: CProjector):
        super().__init__()
        self.tower, self.projector = tower, projector

    @property
    def image_size(self) -> int:
        return self.tower.image_size

    @property
    def input_dim(self) -> int:
        return self.tower.input_dim

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.projector(self.tower(images))


@register_kind
@dataclass
class TrikdEncoder(Encoder):
    """Frozen text encoder, X-projector and tokenizer; on the image side, CLIP's tower or head with the C-projector.

    Without a CLIP, image features are those of its space, as `mlvl-prepare --teacher` stores them.
    """

    frozen = {
        "mte": "of a TriKD: its text encoder",
        "clip": "of a TriKD: its CLIP, which pictures need",
        "sentencepiece": "of a TriKD: XLM-R's folder",
    }

    mte: XlmrEncoder
    x_projector: XProjector
    tokenizer: SentencePieceTokenizer
    longest: int

    @classmethod
    def detect(cls, source: WeightSource) -> bool:
        return is_trikd_checkpoint(source)

    @classmethod
    def read(cls, path, mte=None, clip=None, sentencepiece=None) -> "TrikdEncoder":
        weights = read_trikd(path)
        files = FrozenFiles(
            _find(weights, "mte", mte or weights.files.mte),
            _find(weights, "clip", clip or weights.files.clip, needed=False),
            _find(weights, "sentencepiece", sentencepiece or weights.files.sentencepiece),
        )
        xlmr, tokenizer = read_xlmr(files.mte), SentencePieceTokenizer(files.sentencepiece)
        weights.require("mte", xlmr.fingerprint, files.mte)
        weights.require("sentencepiece", tokenizer.fingerprint, files.sentencepiece)
        xlmr.require_vocabulary(len(tokenizer.dictionary))
        vision, head = _image_side(weights, files)
        return cls(
            vision=vision,
            head=head,
            fingerprint=weights.fingerprint,
            languages=[],
            source=str(path),
            mte=xlmr.encoder(),
            x_projector=weights.x_projector(),
            tokenizer=tokenizer,
            longest=weights.max_length,
        )

    @property
    def embed_dim(self) -> int:
        return self.mte.config.width

    @property
    def max_length(self) -> int:
        return self.longest

    @property
    def tokenization(self) -> str:
        return f"spm-{self.tokenizer.fingerprint[:12]}"

    def tokenize(self, captions: Sequence[str]) -> List[List[int]]:
        keep, dictionary = self.max_length - 2, self.tokenizer.dictionary
        return [[dictionary.bos(), *ids[:keep], dictionary.eos()] for ids in self.tokenizer.encode_batch(captions)]

    def text_features(self, tokens: List[List[int]], lang: Optional[str] = None) -> torch.Tensor:
        batch, ends = (part.to(self.device) for part in pad_right(tokens, PAD))
        return self.x_projector(self.mte(batch), batch.eq(PAD), ends)


def _find(weights: TrikdWeights, option: str, path: Optional[str], needed: bool = True) -> Optional[str]:
    """Raises UserError: a frozen file is not where it was, or nobody said where it is."""
    if path is not None and Path(path).exists():
        return path
    if path is None and not needed:
        return None
    where = "is not known" if path is None else f"{path} is not there"
    raise UserError(f"{weights.source} needs the {option} it was trained with, which {where}: give it with --{option}")


def _image_side(weights: TrikdWeights, files: FrozenFiles) -> Tuple[Optional[nn.Module], nn.Module]:
    """What encodes pictures, if anything does, and what encodes given features."""
    projector = weights.c_projector()
    if files.clip is None or weights.frozen_fingerprint("clip") is None:
        return None, projector
    clip = Encoder.load(files.clip)
    weights.require("clip", clip.fingerprint, files.clip)
    vision, head = (tower and ProjectedTower(tower, projector) for tower in (clip.vision, clip.head))
    return vision, head or projector
