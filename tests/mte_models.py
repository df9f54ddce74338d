"""Small translating encoders and batches for tests."""

from argparse import Namespace

import torch
from fairseq.data import Dictionary
from small_mte import write_small_mte

from mlvl_fairseq.models.mte import MteConfig, MteModel

LANGUAGES = ["de", "en", "fr"]
SIZES = {"layers": 2, "width": 16, "ffn_width": 32, "heads": 2}


def new_dictionary(symbols=25):
    dictionary = Dictionary()
    for i in range(symbols):
        dictionary.add_symbol(f"w{i}")
    dictionary.add_symbol("<mask>")
    return dictionary


def write_random_xlmr(path, seed=0):
    """A file with random weights of the dimensions that `new_model` has."""
    return write_small_mte(path, 30, SIZES["width"], SIZES["layers"], seed)


def new_model(languages=LANGUAGES, dictionary=None, **options) -> MteModel:
    """Built from options as fairseq does it; without ``xlmr`` from scratch."""
    cfg = MteConfig(
        **{
            "encoder_from_scratch": "xlmr" not in options,
            "encoder_layers": SIZES["layers"],
            "encoder_embed_dim": SIZES["width"],
            "encoder_ffn_embed_dim": SIZES["ffn_width"],
            "encoder_attention_heads": SIZES["heads"],
            "decoder_layers": 2,
            "decoder_ffn_embed_dim": 24,
            "decoder_attention_heads": 2,
            "max_source_positions": 20,
            "max_target_positions": 20,
            **{name: str(value) if name in ("xlmr", "init_from") else value for name, value in options.items()},
        }
    )
    task = Namespace(source_dictionary=dictionary or new_dictionary(), languages=languages, language_id=None)
    return MteModel.build_model(cfg, task)


def pad(rows, left=False):
    """Lists of ids to a tensor [B, T], padded with 1."""
    length = max(map(len, rows))
    return torch.tensor(
        [[1] * (length - len(row)) * left + row + [1] * (length - len(row)) * (not left) for row in rows]
    )


def new_batch(rows, target_lang=2, left=False):
    """fairseq's batch of ``(source, target)`` pairs of ids without special symbols."""
    sources, targets = [[0, *source, 2] for source, _ in rows], [[*target, 2] for _, target in rows]
    return {
        "id": torch.arange(len(rows)),
        "nsentences": len(rows),
        "ntokens": sum(map(len, targets)),
        "target": pad(targets),
        "net_input": {
            "src_tokens": pad(sources, left),
            "src_lengths": torch.tensor([len(source) for source in sources]),
            "prev_output_tokens": pad([[2, *target[:-1]] for target in targets]),
            "target_lang": target_lang,
        },
    }


PAIRS = [([5, 6, 7], [8, 9]), ([10, 11], [12, 13, 14, 15]), ([16], [17]), ([18, 19, 5, 6], [20, 21, 22]), ([7, 7], [9])]
