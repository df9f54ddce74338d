"""CLIP (Radford et al. 2021): a text tower whose token embedding can grow, and an image tower or head."""

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Dict, Optional, Sequence, Union

from torch import Tensor, nn

from mlvl_fairseq.checkpoints.check import check_tensors, holding
from mlvl_fairseq.checkpoints.clip import QUICK_GELU, ClipCheckpoint, CLIPWeights
from mlvl_fairseq.checkpoints.source import Tensors, WeightFormat, WeightSource, add_prefix
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.data.text.clip_bpe import checked_segmentation
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.adapters import ADAPTERS, TextAdapter
from mlvl_fairseq.modules.heads import FeatureHead, HeadConfig, new_logit_scale, temperature
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower, TextConfig
from mlvl_fairseq.modules.towers.clip_vision import CLIPVisionTower, VisionConfig
from mlvl_fairseq.modules.transformer import ACTIVATIONS
from mlvl_fairseq.networks.base import Encoded, Network, Restored, register_network
from mlvl_fairseq.options import choice

ImageTower = choice("ImageTower", "vit", "features")
Activation = choice("Activation", *ACTIVATIONS)
ACTIVATION_HELP = "of a CLIP whose file does not say it: quick_gelu (OpenAI's) or gelu (most of open_clip's)"
AdapterKind = choice("AdapterKind", "none", *ADAPTERS)


@dataclass
class ClipOptions:
    """Dimensions default to ViT-B/32; ``--arch`` sets them all at once."""

    embed_dim: int = field(default=512, metadata={"help": "dimension shared by text and image features"})
    context_length: int = field(default=77, metadata={"help": "longest caption in tokens, BOS and EOS included"})
    text_width: int = field(default=512, metadata={"help": "width of the text tower"})
    text_layers: int = field(default=12, metadata={"help": "layers of the text tower"})
    text_heads: int = field(default=8, metadata={"help": "attention heads of the text tower"})
    image_tower: ImageTower = field(
        default=ImageTower.vit,
        metadata={
            "help": "vit: a vision transformer on pixels; features: a small head on features of a frozen network"
        },
    )
    image_size: int = field(default=224, metadata={"help": "image height and width in pixels (vit)"})
    patch_size: int = field(default=32, metadata={"help": "patch height and width in pixels (vit)"})
    vision_width: int = field(default=768, metadata={"help": "width of the image tower, or of the head's hidden layer"})
    vision_layers: int = field(default=12, metadata={"help": "layers of the image tower (vit)"})
    vision_heads: int = field(default=12, metadata={"help": "attention heads of the image tower (vit)"})
    image_feature_dim: int = field(default=0, metadata={"help": "dimension of given image features (0: the corpus's)"})
    image_dropout: float = field(default=0.0, metadata={"help": "dropout on given image features (features)"})
    activation: Optional[Activation] = field(
        default=None,
        metadata={
            "help": "of the towers' MLPs: quick_gelu (OpenAI's CLIP) or gelu (most models of open_clip). Default: that "
            "of --init-from, whose file may not say it, or quick_gelu"
        },
    )
    adapter: AdapterKind = field(
        default=AdapterKind.none,
        metadata={
            "help": "parts of the text tower that belong to languages (cll_retrieval only): bottleneck (MLA), prefix "
            "(P-Tuning), lora; dual_prompt and coda_prompt need no language at test time"
        },
    )


ARCHITECTURES: Dict[str, Dict[str, Any]] = {
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


@dataclass(frozen=True)
class ClipDimensions:
    """What a CLIP is made of, whether options or a file say so.

    Attributes:
        text: its text tower. vision: its image tower, or head on given features; None: it has no image side.
    """

    text: TextConfig
    vision: Union[VisionConfig, HeadConfig, None] = None

    @classmethod
    def of_options(
        cls, options, vocab_size: int, has_images: bool, feature_dim: int = 0, activation: str = QUICK_GELU
    ) -> "ClipDimensions":
        """Args: options: :class:`ClipOptions`, or anything with its fields. vocab_size: rows of the token embedding.
        has_images: images are encoded, too. feature_dim: of given image features, activation: where the options do not
        say it."""
        activation = str(options.activation or activation)
        text = TextConfig(
            vocab_size,
            options.text_width,
            options.text_layers,
            options.text_heads,
            options.embed_dim,
            options.context_length,
            activation=activation,
        )
        if not has_images:
            return cls(text)
        width, embed_dim = options.vision_width, options.embed_dim
        if options.image_tower == "features":
            input_dim = options.image_feature_dim or feature_dim
            return cls(text, HeadConfig(input_dim, width, embed_dim, options.image_dropout))
        layers, heads = options.vision_layers, options.vision_heads
        vision = VisionConfig(
            options.image_size, options.patch_size, width, layers, heads, embed_dim, activation=activation
        )
        return cls(text, vision)

    def misfit(self, weights: CLIPWeights) -> str:
        """Which dimensions of weights to start from are others, of one tower; empty: none, tokens apart."""
        pairs = [("text", self.text, weights.text_config)]
        if isinstance(self.vision, VisionConfig) and weights.vision_config:
            pairs.append(("vision", self.vision, weights.vision_config))
        for name, own, given in pairs:
            own, given = asdict(own), asdict(given)
            differ = [f"{k} {given[k]}, not {own[k]}" for k in own if k != "vocab_size" and own[k] != given[k]]
            if differ:
                return f"the {name} tower has {'; '.join(differ)}"
        return ""

    def check(self, weights: CLIPWeights) -> None:
        """Raises UserError: weights to start from have other dimensions, or more tokens."""
        misfit = self.misfit(weights)
        if misfit:
            fitting = architecture_of(weights)
            advice = f"--arch {fitting}, which fits it" if fitting else "another --arch"
            raise UserError(f"{weights.source}: {misfit}: choose {advice}")
        if weights.text_config.vocab_size > self.text.vocab_size:
            raise UserError(f"{weights.source}: its vocabulary is larger than the corpus's; was it grown already?")


def architecture_of(weights: CLIPWeights) -> Optional[str]:
    """The ``--arch`` that weights fit; None: there is no such."""
    size, activation = weights.text_config.vocab_size, weights.text_config.activation
    for name, dimensions in ARCHITECTURES.items():
        options = replace(ClipOptions(), **dimensions)
        if not ClipDimensions.of_options(options, size, True, activation=activation).misfit(weights):
            return name
    return None


@register_network("clip")
class ClipNetwork(Network):
    """CLIP whose token embedding can grow (Yang et al. 2024, section 3.2).

    Attributes:
        text: :class:`CLIPTextTower`.
        vision: :class:`CLIPVisionTower`, or :class:`FeatureHead` on given image features; None where only the text
            tower is trained on cached image features.
        logit_scale: logarithm of the inverse temperature; only with an image side.
        adapter: :class:`TextAdapter`, what is language-specific in the text tower; None: nothing.
    """

    frozen_files = {"init_from": "of a CLIP: the weights it started from", "activation": ACTIVATION_HELP}
    freezing_presets = {
        "all": (),
        "text": ("-^vision",),
        "image": ("-^text",),
        "token_embedding": ("-.", r"+^text\.token_embedding"),
    }
    language_modules = ("adapter",)
    language_architectures = ARCHITECTURES

    def __init__(self, text: CLIPTextTower, vision: Optional[nn.Module], adapter: Optional[TextAdapter] = None):
        super().__init__()
        self.text, self.vision, self.adapter = text, vision, adapter
        if vision is not None:
            self.logit_scale = new_logit_scale()

    @classmethod
    def restore(cls, file: WeightFormat, source: WeightSource, init_from=None, activation=None) -> Restored:
        checkpoint = file.read(source, init_from, activation)
        vocabulary, towers = clip_vocabulary().with_additions(checkpoint.vocabulary, source.path), checkpoint.weights
        size = towers.text_config.vocab_size
        if len(vocabulary) != size:
            message = f"has {size} token embeddings for a vocabulary of {len(vocabulary)}"
            advice = "; a grown one is in vocab.json and merges.txt beside it" if source.path.is_dir() else ""
            raise DataError(message + advice, source.path)
        vision = towers.vision_tower() if towers.vision_config else _head(checkpoint)
        network = cls(towers.text_tower(), vision, checkpoint.adapter).eval()
        if vision is not None and towers.logit_scale is not None:
            network.logit_scale.data.fill_(towers.logit_scale)
        segmentation = checked_segmentation(checkpoint.segmentation, vocabulary, source.path)
        tokenizer = ClipTokenizer(vocabulary, segmentation)
        arch = architecture_of(towers)
        return Restored(network, tokenizer, checkpoint.fingerprint, checkpoint.languages, architecture=arch)

    def load_weights(self, weights: CLIPWeights, growth) -> None:
        """Copy tower weights.

        Args:
            growth: draws the embedding's new rows, see
                :class:`mlvl_fairseq.modules.expandable_embedding.GrowthOptions`.
        """
        text = dict(weights.text)
        rows = self.text.token_embedding.num_embeddings
        text["token_embedding.weight"] = growth.grow(text["token_embedding.weight"], rows)
        self.text.load_state_dict(text)
        if isinstance(self.vision, CLIPVisionTower) and weights.vision:
            self.vision.load_state_dict(weights.vision)
        if self.vision is not None and weights.logit_scale is not None:
            self.logit_scale.data.fill_(weights.logit_scale)

    @property
    def embed_dim(self) -> int:
        return self.text.text_projection.shape[1]

    @property
    def max_length(self) -> int:
        return self.text.context_length

    @property
    def preprocess(self) -> Optional[ImageTransform]:
        return ImageTransform("clip", self.vision.image_size) if isinstance(self.vision, CLIPVisionTower) else None

    @property
    def feature_dim(self) -> int:
        return self.vision.input_dim if isinstance(self.vision, FeatureHead) else self.embed_dim

    @property
    def image_side(self) -> Dict[str, nn.Module]:
        if self.vision is None:
            return {}
        return {"head" if isinstance(self.vision, FeatureHead) else "image tower": self.vision}

    @property
    def current_language(self) -> Optional[str]:
        return None if self.adapter is None else self.adapter.languages[-1]

    @property
    def text_languages(self) -> Sequence[str]:
        return self.adapter.languages if self.adapter is not None and self.adapter.needs_language else ()

    @property
    def temperature(self) -> Optional[Tensor]:
        """Scalar that divides cosines, at least 0.01; None without an image side."""
        return None if self.vision is None else temperature(self.logit_scale)

    def encode_text(
        self, tokens: Tensor, eos_positions: Tensor, lang: Optional[str] = None, lengths: Lengths = None
    ) -> Encoded:
        tower = partial(self.text, lengths=lengths)
        if self.adapter is None:
            return Encoded(tower(tokens, eos_positions))
        adapted = self.adapter(tower, tokens, eos_positions, lang)
        return Encoded(adapted.features, auxiliary_loss=adapted.auxiliary_loss)

    def text_weights(self, tokens: Tensor, lang: Optional[str] = None) -> Tensors:
        """See :meth:`Network.text_weights`: the tokens' rows, and of the adapter what the language goes through."""
        weights = add_prefix(self.text.state_dict(), "text.")
        weights["text.token_embedding.weight"] = self.text.token_embedding(tokens)
        adapter = {} if self.adapter is None else self.adapter.weights_of(lang)
        return {**weights, **add_prefix(adapter, "adapter.")}

    def encode_image(self, images: Tensor) -> Encoded:
        return super().encode_image(images) if self.vision is None else Encoded(self.vision(images))

    def encode_features(self, features: Tensor) -> Encoded:
        return Encoded(self.vision(features) if isinstance(self.vision, FeatureHead) else features)


def _head(checkpoint: ClipCheckpoint) -> Optional[FeatureHead]:
    """The head on given image features that a checkpoint holds, if it does."""
    if not checkpoint.head:
        return None
    shapes = [checkpoint.head[name].shape for name in ("c_fc.weight", "proj.weight") if name in checkpoint.head]
    if [len(shape) for shape in shapes] != [2, 2]:
        raise DataError("has a head on image features without c_fc.weight and proj.weight", checkpoint.weights.source)
    (width, input_dim), (embed_dim, _) = shapes
    build = HeadConfig(input_dim, width, embed_dim).build
    check_tensors(checkpoint.weights.source, "a FeatureHead", build, checkpoint.head)
    return holding(build, checkpoint.head)
