"""Small networks of every family as checkpoints, and their encoders."""

import pytest
import torch
from small_mte import write_small_mte

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.formats.trikd import FINGERPRINTS, FrozenFiles, TrikdWeights, write_trikd
from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.checkpoints.source import add_prefix, fingerprint_tensor
from mlvl_fairseq.data.text import clip_vocabulary, train_bpe
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.data.text.wordpiece import SPECIAL, WordPieces, WordPieceTokenizer
from mlvl_fairseq.export import export_named
from mlvl_fairseq.export.samples import OWN_CAPTIONS
from mlvl_fairseq.inference import Encoder
from mlvl_fairseq.modules.towers.clip_text import TextConfig
from mlvl_fairseq.modules.towers.clip_vision import VisionConfig
from mlvl_fairseq.modules.x_projector import CProjector, XProjector
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork, TowerConfigs
from mlvl_fairseq.networks.dual_encoder_files import saved_options


def shaken(module, scale=0.1):
    """Every parameter random, biases too, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


@pytest.fixture(scope="session")
def export():
    """``export("clip-hf", lang="de")``: a format with options."""

    def make(name, **options):
        kind = export_named(name)
        return kind(kind.Options(**options))

    return make


@pytest.fixture(scope="session")
def grown():
    """CLIP's vocabulary with the tokens of captions in several scripts."""
    return clip_vocabulary().grown_by(train_bpe(OWN_CAPTIONS * 3, 700))


@pytest.fixture(scope="session")
def save_clip(grown, tmp_path_factory):
    """``save_clip(gelu=False, **task_state)``: the file of a small CLIP that has learned two languages."""

    def save(activation="quick_gelu", vision=True, **state):
        text = shaken(TextConfig(len(grown), 16, 2, 4, 12, activation=activation).build(), 0.3)
        image = shaken(VisionConfig(32, 16, 24, 2, 3, 12, activation=activation).build(), 0.3)
        model = add_prefix(text.state_dict(), "text.")
        if vision:
            model.update(add_prefix(image.state_dict(), "vision."), logit_scale=torch.tensor(2.5))
        options = {"text_heads": 4, "vision_heads": 3, "init_from": None, "activation": activation}
        state = {"vocabulary": grown.additions(clip_vocabulary()), "languages": ["en", "de"], **state}
        path = tmp_path_factory.mktemp("clip") / "checkpoint.pt"
        save_checkpoint({"cfg": {"model": options}, "model": model, "task_state": state}, path)
        return path

    return save


@pytest.fixture(scope="session")
def clip(save_clip):
    return Encoder.load(save_clip())


@pytest.fixture(scope="session")
def pieces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("".join(f"{caption}\n" for caption in OWN_CAPTIONS * 3), encoding="utf-8")
    train_sentencepiece([folder / "text"], folder, 300, 1.0)
    return folder


@pytest.fixture(scope="session")
def mte(pieces):
    """An XLM-R folder with a text encoder."""
    write_small_mte(pieces / "model.pt", len(SentencePieceTokenizer(pieces)), 16, layers=2)
    weights = read_xlmr(pieces)
    return Encoder.load(pieces), weights


@pytest.fixture(scope="session")
def save_trikd(mte, save_clip, pieces, tmp_path_factory):
    """``save_trikd(heads, ffn)``: the file of projectors of these dimensions."""
    clip = save_clip()

    def save(heads=2, ffn=32):
        parts = {"x_projector.": XProjector(16, ffn, heads, 2), "c_projector.": CProjector(12, 16)}
        tensors = {"logit_scale": torch.tensor(2.0)}
        for prefix, part in parts.items():
            tensors.update(add_prefix(shaken(part, 0.2).state_dict(), prefix))
        digests = {"mte": mte[1].fingerprint, "clip": Encoder.load(clip).fingerprint}
        tensors.update({FINGERPRINTS[part]: fingerprint_tensor(digest) for part, digest in digests.items()})
        files = FrozenFiles(str(pieces / "model.pt"), str(clip), str(pieces))
        path = tmp_path_factory.mktemp("trikd") / "trikd.pt"
        write_trikd(TrikdWeights(tensors, heads, files, None, 40, str(path)), path)
        return path

    return save


@pytest.fixture(scope="session")
def wordpieces():
    """As LilT was published: cleaned captions, lower case, no ``[SEP]``."""
    letters = sorted({letter for caption in OWN_CAPTIONS for letter in caption.lower() if not letter.isspace()})
    words = sorted({word for caption in OWN_CAPTIONS for word in caption.lower().split() if word.isascii()})
    tokens = list(dict.fromkeys([*SPECIAL.values(), *letters, *(f"##{letter}" for letter in letters), *words]))
    return WordPieceTokenizer(WordPieces(tokens, True, True, cleaning="lilt", ends_texts=False))


@pytest.fixture(scope="session")
def save_dual_encoder(wordpieces, tmp_path_factory):
    """``save_dual_encoder(image_tower=...)``: the file of two towers, with a preset's parts."""

    def save(**options):
        given = {
            **{"text_tower": "bert_tiny", "text_width": 16, "text_heads": 2, "text_max_positions": 40},
            **{"image_tower": "vit_tiny", "image_size": 32, "image_width": 24, "image_heads": 3, "image_layers": 2},
            **{"embed_dim": 12, "preset": "full", **options},
        }
        schema = saved_options(DualEncoderNetwork)(**given)
        configs = TowerConfigs.of_options(schema, len(wordpieces))
        network = shaken(DualEncoderNetwork.of_options(schema, configs), 0.2)
        content = {
            "cfg": {"model": given, "task": {"max_length": 30}},
            "model": network.state_dict(),
            "task_state": wordpieces.checkpoint_state(),
        }
        path = tmp_path_factory.mktemp("dual") / "checkpoint.pt"
        save_checkpoint(content, path)
        return path

    return save
