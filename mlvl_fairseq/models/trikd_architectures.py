"""Named dimensions of the `trikd` model, after those of the text encoder."""

from mlvl_fairseq.models import trikd  # noqa: F401  (registers the model first)
from mlvl_fairseq.models._architectures import register_architectures

ARCHITECTURES = {
    "trikd_base": {},
    "trikd_large": {"encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096, "encoder_attention_heads": 16},
    "trikd_tiny": {"encoder_embed_dim": 128, "encoder_ffn_embed_dim": 512, "encoder_attention_heads": 4},
}

register_architectures("trikd", ARCHITECTURES)
