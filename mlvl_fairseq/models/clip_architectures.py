"""Named dimensions of the `clip` model: the official CLIPs, and small ones for work on a CPU."""

from mlvl_fairseq.models import clip  # noqa: F401  (registers the model first)
from mlvl_fairseq.models._architectures import register_architectures

ARCHITECTURES = {
    "clip_vit_b32": {},
    "clip_vit_b16": {"patch_size": 16},
    "clip_vit_l14": {
        "embed_dim": 768,
        "text_width": 768,
        "text_heads": 12,
        "patch_size": 14,
        "vision_width": 1024,
        "vision_layers": 24,
        "vision_heads": 16,
    },
    # 2-layer text tower on given image features
    "clip_tiny": {
        "embed_dim": 256,
        "text_width": 128,
        "text_layers": 2,
        "text_heads": 4,
        "image_tower": "features",
        "vision_width": 512,
    },
    # the same text tower with a vision transformer for 64x64 pictures
    "clip_tiny_vit": {
        "embed_dim": 128,
        "text_width": 128,
        "text_layers": 2,
        "text_heads": 4,
        "image_size": 64,
        "patch_size": 16,
        "vision_width": 128,
        "vision_layers": 3,
        "vision_heads": 4,
    },
}

register_architectures("clip", ARCHITECTURES)
