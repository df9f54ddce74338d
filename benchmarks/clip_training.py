"""A dual encoder and random batches of the task image_text_retrieval, for measurements."""

from types import SimpleNamespace
from typing import Dict

import torch
from torch import Tensor

from mlvl_fairseq.criterions.clip_contrastive import ClipContrastiveConfig, ClipContrastiveCriterion
from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.models.clip import ClipConfig, ClipModel
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions
from mlvl_fairseq.networks.clip import ARCHITECTURES

VOCABULARY = 49408
ARCHS = sorted(arch for arch, sizes in ARCHITECTURES.items() if sizes.get("image_tower", "vit") == "vit")


def dimensions(arch: str, layers: int = 0) -> ClipConfig:
    """Sizes of an architecture; `layers` shortens both of its towers, 0 does not."""
    shortened = {"text_layers": layers, "vision_layers": layers} if layers else {}
    return ClipConfig(**{**ARCHITECTURES[arch], **shortened})


def build_model(config: ClipConfig) -> ClipModel:
    """The model that the task image_text_retrieval trains, with the same random weights every time."""
    task = SimpleNamespace(
        source_dictionary=range(VOCABULARY),
        trains_image_tower=True,
        image_feature_dim=0,
        default_freeze="",
        growth=GrowthOptions(),
        tokenizer=ClipTokenizer(clip_vocabulary()),
    )
    torch.manual_seed(0)
    return ClipModel.build_model(config, task).train()


def build_criterion() -> ClipContrastiveCriterion:
    return ClipContrastiveCriterion(ClipContrastiveConfig(), SimpleNamespace(trains_image_tower=True)).train()


def random_batch(config: ClipConfig, rows: int, mean_tokens: int, seed: int) -> Dict:
    """A batch as the task's collater makes it, every image with one caption. 0 tokens: captions of full length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.full((rows,), config.context_length)
    if mean_tokens:
        drawn = torch.empty(rows).log_normal_(0, 0.5, generator=generator) * mean_tokens / 1.13  # its mean is 1.13
        lengths = drawn.long().clamp(3, config.context_length)
    end = VOCABULARY - 1  # the largest id, by which CLIP recognises the end of a text
    tokens = torch.randint(1, end - 1, (rows, int(lengths.max())), generator=generator)
    tokens[:, 0] = end - 1
    tokens[torch.arange(tokens.shape[1]) >= lengths[:, None] - 1] = end
    return {
        "net_input": {"tokens": tokens, "eos_positions": lengths - 1},
        "image_features": random_images(config, rows, generator),
        "image_ids": torch.arange(rows),
        "nsentences": rows,
        "ntokens": int(lengths.sum()),
    }


def random_images(config: ClipConfig, rows: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, 3, config.image_size, config.image_size, generator=generator)
