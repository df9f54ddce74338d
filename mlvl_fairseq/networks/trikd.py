"""TriKD (Chen et al. 2023): a frozen multilingual text encoder (MTE) and a frozen CLIP, brought into one space by two
small projectors. In CLIP's place any model of pictures and English texts will do."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

import torch
from omegaconf import MISSING
from torch import Tensor, nn

from mlvl_fairseq.checkpoints.formats.trikd import TrikdWeights
from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, read_xlmr
from mlvl_fairseq.checkpoints.source import WeightFormat, WeightSource, format_of
from mlvl_fairseq.data.images.transforms import CLIP_TRANSFORM, ImageTransform, transform_names
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.chunking import in_chunks
from mlvl_fairseq.modules.heads import new_logit_scale, temperature
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrEncoder
from mlvl_fairseq.modules.x_projector import CProjector, XProjector
from mlvl_fairseq.networks.base import NETWORKS, Encoded, Network, Restored, register_network
from mlvl_fairseq.networks.clip import ACTIVATION_HELP
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork
from mlvl_fairseq.networks.freezing import freeze_parameters
from mlvl_fairseq.options import choice

LONGEST = 77
Transform = choice("Transform", *transform_names())
ImageInput = choice("ImageInput", "teacher", "vit", "features")


@dataclass
class FrozenEncoderOptions:
    """The frozen encoders that projectors stand on."""

    mte: str = field(
        default=MISSING,
        metadata={
            "help": "the frozen text encoder: a folder of `mlvl-export xlmr` or of XLM-R, its model.pt, or a "
            "checkpoint of task mte_pretraining"
        },
    )
    image_tower: ImageInput = field(
        default=ImageInput.teacher,
        metadata={
            "help": "what the C-projector takes: teacher, CLIP's features as `mlvl-prepare --teacher` stored them; "
            "vit, pictures, through the frozen image tower of --clip; features, given features of any other network "
            "(`mlvl-prepare --image-features`), which has no texts: train with --loss-type nott"
        },
    )
    clip: Optional[str] = field(
        default=None,
        metadata={
            "help": "the frozen CLIP: an official file, a Hugging Face folder or a checkpoint of this plugin, also of "
            "another kind of model of pictures and texts (dual_encoder). Needed with --image-tower vit; with teacher "
            "it is only checked to be the one that computed the features, and remembered for evaluation"
        },
    )
    transform: Transform = field(
        default=Transform(CLIP_TRANSFORM),
        metadata={
            "help": "what cuts pictures for CLIP's image tower: clip, its own preprocessing, whatever that is; mclip, "
            "as published: the shorter side to 248, of which the middle 224 are cut out. With --image-tower teacher: "
            "what cut those of `mlvl-prepare --teacher --transform`"
        },
    )
    frozen_dropout: bool = field(
        default=False,
        metadata={"help": "let dropout work in the frozen text encoder while training, as published; by default off"},
    )


@dataclass
class TrikdOptions(FrozenEncoderOptions):
    """Dimensions default to XLM-R base; ``--arch`` sets them all at once."""

    encoder_layers: int = field(default=2, metadata={"help": "layers of the X-projector"})
    encoder_embed_dim: int = field(default=768, metadata={"help": "width of text encoder, X-projector and space"})
    encoder_ffn_embed_dim: int = field(default=3072, metadata={"help": "inner width of the X-projector"})
    encoder_attention_heads: int = field(default=12, metadata={"help": "attention heads of the X-projector"})
    dropout: float = field(default=0.3, metadata={"help": "dropout in the X-projector"})
    attention_dropout: float = field(default=0.1, metadata={"help": "dropout of the X-projector's attention"})


ARCHITECTURES: Dict[str, Dict[str, Any]] = {  # after the text encoder
    "trikd_base": {},
    "trikd_large": {"encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096, "encoder_attention_heads": 16},
    "trikd_tiny": {"encoder_embed_dim": 128, "encoder_ffn_embed_dim": 512, "encoder_attention_heads": 4},
}


class OtherTeacher(nn.Module):
    """The image side of a model of another kind in CLIP's place.

    Attributes:
        network: all of it; texts do not go through it. image_size: of its pictures; None: it takes given features.
        input_dim: dimension of these.
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network, own = network, network.preprocess
        self.image_size, self.input_dim = own and own.size, network.feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Pictures after the network's own transform, or given features, to its space."""
        encode = self.network.encode_features if self.image_size is None else self.network.encode_image
        return encode(images).vector


class Teacher(NamedTuple):
    """What of a model in CLIP's place encodes images.

    Attributes:
        source: its file. dim: of its space. fingerprint: sha256 (hex) of its weights, as stored features name it.
        vision: what encodes pictures, head: given features; None: it does not take such.
    """

    source: str
    dim: int
    fingerprint: str
    vision: Optional[nn.Module] = None
    head: Optional[nn.Module] = None

    @classmethod
    def read(cls, path, **frozen: Optional[str]) -> "Teacher":
        """Args: path: of any model with an image side. frozen: where its frozen files are now, see :class:`Network`;
        None: where they were.

        Raises:
            UserError: it has no image side, or no such frozen file. DataError: see :meth:`Network.restore`.
        """
        source = WeightSource(path)
        file = format_of(source)
        network, given = NETWORKS[file.family], {name: value for name, value in frozen.items() if value is not None}
        for name in given.keys() - network.frozen_files.keys():
            raise UserError(f"{path}: there is no --{name.replace('_', '-')} for this kind of model")
        restored = network.restore(file, source, **given)
        whole, own = restored.network, restored.network.image_side
        if not own:
            raise UserError(f"{path} has no image side: give a model of pictures and English texts in CLIP's place")
        parts = {"image tower": "vision", "head": "head"}
        if own.keys() <= parts.keys():
            sides = {parts[name]: module for name, module in own.items()}
        else:
            sides = {"head" if whole.preprocess is None else "vision": OtherTeacher(whole)}
        return cls(str(path), whole.embed_dim, restored.fingerprint, **sides)

    @classmethod
    def of_options(cls, options) -> Optional["Teacher"]:
        """Of ``--clip`` and ``--activation``; None: it is not given."""
        activation = options.activation and str(options.activation)
        return cls.read(options.clip, activation=activation) if options.clip else None

    def for_pictures(self) -> nn.Module:
        """`vision`. Raises UserError: it takes given features."""
        if self.vision is None:
            raise UserError(f"{self.source} holds no image tower: give a checkpoint with both towers")
        return self.vision


@register_network("trikd")
class TrikdNetwork(Network):
    """X-projector over a frozen text encoder, C-projector over a frozen CLIP's images and English texts.

    Attributes:
        x_projector: :class:`XProjector`. c_projector: :class:`CProjector`. logit_scale: log of inverse temperature.
        mte: :class:`XlmrEncoder`, None where its states are given.
        vision: image tower of CLIP, None where its features are given.
        head: CLIP's head on given image features, None where features are CLIP's own.
        frozen_dropout: whether dropout of `mte` works in training.
        longest: tokens of a text.
        transform: name of what cuts pictures for `vision`.
    """

    frozen_files = {
        "mte": "of a TriKD: its text encoder",
        "clip": "of a TriKD: its CLIP, which pictures need",
        "sentencepiece": "of a TriKD: XLM-R's folder",
        "activation": ACTIVATION_HELP,
        **DualEncoderNetwork.frozen_files,  # of such a one in CLIP's place
    }

    def __init__(
        self,
        x_projector: XProjector,
        c_projector: CProjector,
        mte: Optional[XlmrEncoder] = None,
        vision: Optional[nn.Module] = None,
        frozen_dropout: bool = False,
        longest: int = LONGEST,
        head: Optional[nn.Module] = None,
        transform: str = CLIP_TRANSFORM,
    ):
        super().__init__()
        self.x_projector, self.c_projector, self.logit_scale = x_projector, c_projector, new_logit_scale()
        self.mte, self.vision, self.head = mte, vision, head
        self.frozen_dropout, self.longest, self.transform = frozen_dropout, longest, transform
        parts = {"mte": mte, "vision": vision, "head": head}
        freeze_parameters(
            self, [f"-^{name}\\." for name, part in parts.items() if part is not None], "freezing encoders"
        )

    @classmethod
    def of_options(cls, options, clip_dim: int, mte=None, vision=None, longest: int = LONGEST) -> "TrikdNetwork":
        """Random projectors.

        Args:
            options: :class:`TrikdOptions`, or anything with its fields. clip_dim: dimension of CLIP's space.
            mte, vision, longest: see the class.
        """
        width, ffn_width, heads = (
            options.encoder_embed_dim, options.encoder_ffn_embed_dim, options.encoder_attention_heads
        )  # fmt: skip
        x_projector = XProjector(
            width, ffn_width, heads, options.encoder_layers, options.dropout, options.attention_dropout
        )
        projectors = x_projector, CProjector(clip_dim, width)
        return cls(*projectors, mte, vision, options.frozen_dropout, longest, transform=str(options.transform))

    @classmethod
    def of_encoders(cls, options, clip_dim: int, mte: XlmrWeights, runs: bool, vision=None) -> "TrikdNetwork":
        """:meth:`of_options` for a text encoder, which the network holds where it `runs`.

        Raises:
            UserError: it is of another width than the projectors.
        """
        mte.require_width(options.encoder_embed_dim)
        return cls.of_options(options, clip_dim, mte.encoder() if runs else None, vision)

    @classmethod
    def restore(
        cls, file: WeightFormat, source: WeightSource, mte=None, clip=None, sentencepiece=None, **teacher
    ) -> Restored:
        """See :class:`Network`. Without a CLIP, image features are those of its space, as ``mlvl-prepare --teacher``
        stores them."""
        weights = file.read(source)
        mte = _find(weights, "mte", mte or weights.files.mte)
        clip = _find(weights, "clip", clip or weights.files.clip, needed=False)
        sentencepiece = _find(weights, "sentencepiece", sentencepiece or weights.files.sentencepiece)
        xlmr, tokenizer = read_xlmr(mte), SentencePieceTokenizer(sentencepiece)
        weights.require("mte", xlmr.fingerprint, mte)
        weights.require("sentencepiece", tokenizer.fingerprint, sentencepiece)
        xlmr.require_vocabulary(len(tokenizer))
        if clip is None and teacher:
            option = sorted(teacher)[0].replace("_", "-")
            raise UserError(f"{source.path}: --{option} is of its CLIP, which is not known: give --clip, too")
        image_side = {} if clip is None else _image_side(weights, clip, **teacher)
        network = cls(
            weights.x_projector(),
            weights.c_projector(),
            xlmr.encoder(),
            longest=weights.max_length,
            transform=weights.transform,
            **image_side,
        )
        network.logit_scale.data.copy_(weights.tensors["logit_scale"])
        return Restored(network.eval(), tokenizer, weights.fingerprint)

    @property
    def embed_dim(self) -> int:
        return self.c_projector.out_features

    @property
    def max_length(self) -> int:
        return self.longest

    @property
    def preprocess(self) -> Optional[ImageTransform]:
        if self.vision is None:
            return None
        if isinstance(self.vision, OtherTeacher) and self.transform == CLIP_TRANSFORM:
            return self.vision.network.preprocess
        return ImageTransform(self.transform, self.vision.image_size)

    @property
    def feature_dim(self) -> int:
        return (self.head or self.c_projector).input_dim

    @property
    def image_side(self) -> Dict[str, nn.Module]:
        parts = {"image tower": self.vision, "head": self.head, "C-projector": self.c_projector}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def temperature(self) -> Tensor:
        """Scalar that divides the cosines of captions and images, at least 0.01."""
        return temperature(self.logit_scale)

    def train(self, mode: bool = True) -> "TrikdNetwork":
        super().train(mode)
        if self.vision is not None:
            self.vision.eval()
        if self.mte is not None and not self.frozen_dropout:
            self.mte.eval()
        return self

    def encode_text(
        self, tokens: Tensor, eos_positions: Tensor, lang: Optional[str] = None, lengths: Lengths = None, states=None
    ) -> Encoded:
        """See :class:`Network`; ids are XLM-R's, padded on either side, and no language matters.

        Args:
            states: [B, T, width] of the text encoder; None: it runs. Of a batch in chunks it runs once, only the
                X-projector twice.
        """
        if states is None:
            with torch.no_grad():
                states = in_chunks(self.mte, (tokens, lengths), self.encode_chunk)
        padding = tokens.eq(PAD)
        vector = in_chunks(self.x_projector, (states, padding, eos_positions, lengths), self.encode_chunk)
        return Encoded(vector, states, ~padding)

    def encode_image(self, images: Tensor) -> Encoded:
        """Pictures with an image tower, else CLIP's features [B, clip_dim]."""
        if self.vision is not None:
            with torch.no_grad():
                images = in_chunks(self.vision, (images,), self.encode_chunk)
        return Encoded(self.c_projector(images))

    def encode_features(self, features: Tensor) -> Encoded:
        return Encoded(self.c_projector(features if self.head is None else self.head(features)))

    def forward(
        self,
        tokens: Tensor,
        eos_positions: Tensor,
        states: Optional[Tensor] = None,
        images: Optional[Tensor] = None,
        english: Optional[Tensor] = None,
        lengths: Lengths = None,
    ) -> Dict[str, Tensor]:
        """Encode captions, and what is given beside them.

        Args:
            tokens, eos_positions, states, lengths: see :meth:`encode_text`. images: see :meth:`encode_image`.
            english: [B, clip_dim] CLIP features of English captions.

        Returns:
            ``text`` and, as far as given, ``image`` and ``english``, each [B, width], not normalised.
        """
        features = {"text": self.encode_text(tokens, eos_positions, lengths=lengths, states=states).vector}
        if images is not None:
            features["image"] = self.encode_image(images).vector
        if english is not None:
            features["english"] = self.c_projector(english)
        return features


def _find(weights: TrikdWeights, option: str, path: Optional[str], needed: bool = True) -> Optional[str]:
    """Raises UserError: a frozen file is not where it was, or nobody said where it is."""
    if path is not None and Path(path).exists():
        return path
    if path is None and not needed:
        return None
    where = "is not known" if path is None else f"{path} is not there"
    raise UserError(f"{weights.source} needs the {option} it was trained with, which {where}: give it with --{option}")


def _image_side(weights: TrikdWeights, path: str, activation: Optional[str] = None, **frozen) -> Dict[str, nn.Module]:
    """What of CLIP encodes pictures or given features; nothing where the projectors were trained without a CLIP."""
    if weights.frozen_fingerprint("clip") is None:
        return {}
    teacher = Teacher.read(path, activation=activation or weights.files.activation, **frozen)
    weights.require("clip", teacher.fingerprint, path)
    return {name: part for name, part in (("vision", teacher.vision), ("head", teacher.head)) if part is not None}
