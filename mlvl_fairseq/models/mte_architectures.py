"""Named dimensions of the `mte` model: XLM-R base and large, and a small one for work on a CPU."""

from mlvl_fairseq.models import mte  # noqa: F401  (registers the model first)
from mlvl_fairseq.models._architectures import register_architectures

ARCHITECTURES = {
    "mte_base": {},
    "mte_large": {  # the decoder is that of SixT+ (Chen et al. 2022), which mCLIP's follows
        "encoder_layers": 24,
        "encoder_embed_dim": 1024,
        "encoder_ffn_embed_dim": 4096,
        "encoder_attention_heads": 16,
        "decoder_ffn_embed_dim": 3072,
        "decoder_attention_heads": 16,
    },
    "mte_tiny": {
        "encoder_layers": 3,
        "encoder_embed_dim": 128,
        "encoder_ffn_embed_dim": 512,
        "encoder_attention_heads": 4,
        "decoder_layers": 2,
        "decoder_ffn_embed_dim": 512,
        "decoder_attention_heads": 4,
    },
}

register_architectures("mte", ARCHITECTURES)
