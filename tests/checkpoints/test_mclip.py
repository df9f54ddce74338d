"""A file in the layout of mCLIP's release becomes our files, with the numbers of its parts."""

from argparse import Namespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fairseq.models.transformer import TransformerConfig
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase

from mlvl_fairseq.checkpoints.formats.mclip import convert_mclip
from mlvl_fairseq.checkpoints.formats.trikd import read_trikd
from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.fairseq_patches import import_clip
from mlvl_fairseq.inference import Encoder
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig, XlmrEncoder

WIDTH, HEADS = 32, 2
CAPTIONS = ["ein roter Ball", "a blue box and a green ball", "Ball"]


def layers():
    config = TransformerConfig()
    config.encoder.embed_dim, config.encoder.ffn_embed_dim, config.encoder.attention_heads = WIDTH, 48, HEADS
    config.encoder.normalize_before, config.activation_fn = False, "gelu"
    return torch.nn.ModuleList(TransformerEncoderLayerBase(config) for _ in range(2)).eval()


class Released:
    """The parts of a small mCLIP, made from fairseq's and OpenAI's classes, and the file that holds them."""

    def __init__(self, folder):
        torch.manual_seed(0)
        (folder / "text").write_text("\n".join(CAPTIONS * 3) + "\n")
        self.sentencepiece = folder / "pieces"
        train_sentencepiece([folder / "text"], self.sentencepiece, 22)
        self.tokenizer = SentencePieceTokenizer(self.sentencepiece)
        self.xlmr = XlmrEncoder(XlmrConfig(len(self.tokenizer.dictionary), 1, WIDTH, 48, HEADS, 40)).eval()
        self.clip = import_clip().model.CLIP(16, 8, 1, 64, 4, 77, 49408, 64, 1, 1).eval()
        self.adapter, self.dim_proj = layers(), torch.nn.Linear(16, WIDTH, bias=False)
        self.theta = torch.tensor(3.5)
        parts = {
            "dim_proj.": self.dim_proj, "encoder_adapter.": self.adapter, "clip.": self.clip,
            "xlmr.model.encoder.sentence_encoder.": self.xlmr,
        }  # fmt: skip
        model = {f"encoder.{p}{n}": t for p, module in parts.items() for n, t in module.state_dict().items()}
        model.update({
            "encoder.version": torch.tensor([3.0]), "encoder.xlmr._float_tensor": torch.zeros(1),
            "encoder.xlmr.model.encoder.lm_head.bias": torch.zeros(3),
        })  # fmt: skip
        args = Namespace(arch="multimodal_encoder_base", dropout=0.3, encoder_attention_heads=HEADS)
        self.content = {"args": args, "model": model, "criterion": {"theta": self.theta}}
        self.file = self.save(folder / "mclip_base.pt")

    def save(self, path, **changes):
        torch.save({**self.content, **changes}, path)
        return path

    def without(self, part):
        return {name: tensor for name, tensor in self.content["model"].items() if not name.startswith(part)}

    @torch.no_grad()
    def text(self, caption):
        """The vector of a caption as in the release: padded on the left, the last position."""
        ids = self.tokenizer.encode_batch([caption])[0]
        tokens = torch.tensor([[1, 1, 0, *ids, 2]])
        x = self.xlmr(tokens).transpose(0, 1)
        for layer in self.adapter:
            x = layer(x, tokens.eq(1))
        return x[-1, 0]

    @torch.no_grad()
    def image(self, pixels):
        return self.dim_proj(self.clip.encode_image(pixels))


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return Released(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def converted(released, run_here, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "mclip"
    with pytest.raises(SystemExit) as end:
        run_here("mlvl-convert", "mclip", released.file, folder, "--sentencepiece", released.sentencepiece)
    assert end.value.code == 0
    return folder


@pytest.fixture(scope="module")
def encoder(converted):
    return Encoder.load(converted / "trikd.pt")


def test_captions_and_pictures_get_the_vectors_of_the_release(released, encoder):
    expected = torch.stack([released.text(caption) for caption in CAPTIONS]).numpy()
    np.testing.assert_allclose(encoder.encode_texts(CAPTIONS), expected, rtol=0, atol=3e-6)
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(encoder.encode_images(pixels), released.image(pixels).numpy(), rtol=0, atol=3e-6)
    features = released.clip.encode_image(pixels).detach().numpy()
    np.testing.assert_allclose(
        encoder.encode_features(features),
        released.image(pixels).numpy(),
        rtol=0,
        atol=3e-6,
    )


def test_temperature_and_encoders(released, converted):
    weights = read_trikd(converted / "trikd.pt")
    assert weights.tensors["logit_scale"] == released.theta and weights.max_length == 78
    mte = read_xlmr(converted / "mte.pt")
    assert mte.config.heads == HEADS and mte.config.dropout == 0.1  # 0.3 was the X-projector's
    for name, tensor in released.xlmr.state_dict().items():
        if name != "version":
            assert torch.equal(mte.tensors[name], tensor), name


def test_half_precision_is_read(released, encoder, tmp_path):
    """The release was trained in it."""
    half = {name: tensor.half() for name, tensor in released.content["model"].items()}
    file = released.save(tmp_path / "half.pt", model=half)
    rough = Encoder.load(convert_mclip(file, tmp_path / "out", released.sentencepiece)).encode_texts(CAPTIONS)
    assert 0 < np.abs(rough - encoder.encode_texts(CAPTIONS)).max() < 0.02


def test_encoders_may_be_given(released, converted, encoder, tmp_path):
    file = released.save(tmp_path / "small.pt", model=released.without(("encoder.xlmr", "encoder.clip")), criterion={})
    for missing in ("--mte", "--clip"):
        given = {"clip": converted / "clip.pt"} if missing == "--mte" else {"mte": converted / "mte.pt"}
        with pytest.raises(UserError, match=f"give it with {missing}"):
            convert_mclip(file, tmp_path / "out", released.sentencepiece, **given)
    files = {"mte": converted / "mte.pt", "clip": converted / "clip.pt"}
    path = convert_mclip(file, tmp_path / "out", released.sentencepiece, **files)
    assert not (tmp_path / "out" / "mte.pt").exists()
    expected = encoder.encode_texts(CAPTIONS)
    np.testing.assert_array_equal(Encoder.load(path).encode_texts(CAPTIONS), expected)
    assert float(read_trikd(path).tensors["logit_scale"]) == pytest.approx(np.log(1 / 0.07))


@pytest.mark.parametrize(
    "content, message",
    [
        ({}, "is missing or no dictionary"),
        ({"model": {"a": torch.zeros(1)}}, "holds no projectors of mCLIP"),
    ],
)
def test_other_files_are_refused(content, message, released, tmp_path):
    torch.save({"x": 1, **content}, tmp_path / "file.pt")
    with pytest.raises(DataError, match=message):
        convert_mclip(tmp_path / "file.pt", tmp_path / "out", released.sentencepiece)


def test_control_states_without_projector_are_other_vectors(released, encoder):
    expected = F.normalize(torch.from_numpy(encoder.encode_texts(CAPTIONS)))
    states = [released.xlmr(torch.tensor([[0, *released.tokenizer.encode_batch([c])[0], 2]]))[0, -1] for c in CAPTIONS]
    assert (F.normalize(torch.stack(states)) - expected).abs().max() > 0.1
