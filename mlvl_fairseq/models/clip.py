"""A CLIP dual encoder as a fairseq model: text tower, image tower (optional), growing vocabulary, frozen parts."""

import re
from dataclasses import asdict, dataclass, field
from typing import Dict, Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from mlvl_fairseq.checkpoints.source import CLIPWeights, fingerprint, read_clip_weights
from mlvl_fairseq.continual.language_state import LanguageState
from mlvl_fairseq.continual.plugins.base import hand_over_plugins
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models._frozen import LeavesOutFrozen
from mlvl_fairseq.modules.adapters import ADAPTERS, TextAdapter, TowerShape, adapter_options, build_adapter
from mlvl_fairseq.modules.chunking import in_chunks
from mlvl_fairseq.modules.expandable_embedding import apply_idle_decay, grow_rows
from mlvl_fairseq.modules.feature_head import FeatureHead
from mlvl_fairseq.modules.temperature import new_logit_scale, temperature
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.modules.towers.clip_vision import CLIPVisionTower
from mlvl_fairseq.options import with_options

EMBEDDING, ADAPTER = "text.token_embedding.", "adapter."
ADAPTER_SEEDS = 30_000  # the first number of those that ask for the seeds of adapters


@dataclass
class ClipBaseConfig(FairseqDataclass):
    """Dimensions default to ViT-B/32; ``--arch`` sets them all at once."""

    embed_dim: int = field(default=512, metadata={"help": "dimension shared by text and image features"})
    context_length: int = field(default=77, metadata={"help": "longest caption in tokens, BOS and EOS included"})
    text_width: int = field(default=512, metadata={"help": "width of the text tower"})
    text_layers: int = field(default=12, metadata={"help": "layers of the text tower"})
    text_heads: int = field(default=8, metadata={"help": "attention heads of the text tower"})
    image_tower: ChoiceEnum(["vit", "features"]) = field(
        default="vit",
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
    encode_chunk: int = field(
        default=0,
        metadata={
            "help": "encode so many captions, and images, of a batch at a time; 0: all at once. An update then takes "
            "the memory of so many rows whatever the --batch-size, with the same gradients, and one more forward pass. "
            "This is how a contrastive loss gets a large batch: --update-freq adds up the losses of small batches, "
            "whose rows are no negatives of each other"
        },
    )
    init_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "weights to start from: an official CLIP file (ViT-B-32.pt, ...), a Hugging Face folder "
            "(config.json, model.safetensors) or a checkpoint of this plugin"
        },
    )
    freeze: Optional[str] = field(
        default=None,
        metadata={
            "help": "regular expression of parameter names to keep as they are, e.g. '^vision' or '^text\\.'; '' "
            "trains all. Default: nothing in image_text_retrieval, all of the text tower but its token embedding in "
            "cll_retrieval"
        },
    )
    adapter: ChoiceEnum(["none", *ADAPTERS]) = field(
        default="none",
        metadata={
            "help": "parts of the text tower that belong to languages (cll_retrieval only): bottleneck (MLA), prefix "
            "(P-Tuning), lora; dual_prompt and coda_prompt need no language at test time"
        },
    )


ClipConfig = with_options(ClipBaseConfig, [adapter_options()])


@register_model("clip", dataclass=ClipConfig)
class ClipModel(LeavesOutFrozen, BaseFairseqModel):
    """CLIP (Radford et al. 2021) whose token embedding can grow (Yang et al. 2024, section 3.2).

    Attributes:
        text: :class:`CLIPTextTower`.
        vision: image tower or head, None where only the text tower is trained on cached image features.
        logit_scale: logarithm of the inverse temperature; only with an image tower.
        adapter: :class:`TextAdapter`, what is language-specific in the text tower; None: nothing.
        language_state: :class:`LanguageState`, only in continual learning.
        continual: plugins of continual learning by name, only there.
        encode_chunk: rows encoded at a time, 0: all.
        has_learned: a checkpoint of the sequence was loaded. is_fresh: it ends the language before this one.
    """

    needs_of_task = ("source_dictionary", "trains_image_tower", "image_feature_dim", "default_freeze", "growth")

    def __init__(self, text: CLIPTextTower, vision: Optional[nn.Module], adapter: Optional[TextAdapter] = None):
        super().__init__()
        self.text, self.vision, self.adapter = text, vision, adapter
        if vision is not None:
            self.logit_scale = new_logit_scale()
        self.language_state: Optional[LanguageState] = None
        self.encode_chunk = 0
        self.has_learned, self.is_fresh = False, False

    @classmethod
    def build_model(cls, cfg: ClipConfig, task) -> "ClipModel":
        """Build for a task of this plugin: it tells the vocabulary's size and whether images are encoded here.

        Raises:
            UserError: the options do not fit together, or the weights to start from do not fit them.
        """
        if cfg.encode_chunk < 0:
            raise UserError(f"--encode-chunk {cfg.encode_chunk} is no number of rows; 0 encodes all at once")
        vision = build_image_tower(cfg, task.image_feature_dim) if task.trains_image_tower else None
        text = CLIPTextTower(
            len(task.source_dictionary),
            cfg.text_width,
            cfg.text_layers,
            cfg.text_heads,
            cfg.embed_dim,
            cfg.context_length,
        )
        model = cls(text, vision, build_text_adapter(cfg, text, task))
        model.encode_chunk = cfg.encode_chunk
        if cfg.init_from:
            model.load_weights(read_clip_weights(cfg.init_from), task.growth)
        model.freeze(task.default_freeze if cfg.freeze is None else cfg.freeze, leave_out=bool(cfg.init_from))
        return model

    def max_positions(self) -> int:
        return self.text.context_length

    def forward(
        self, tokens: Tensor, eos_positions: Tensor, images: Optional[Tensor] = None, lang: Optional[str] = None
    ) -> Dict[str, Tensor]:
        """Encode captions, and images if any.

        Args:
            tokens: [B, T] ids. eos_positions: [B]. images: what the image tower takes, [B, ...].
            lang: language of the captions, for adapters; None: the language that is learned now.

        Returns:
            ``text`` [B, embed_dim], not normalised; with images also ``image`` [B, embed_dim]; ``auxiliary_loss``, a
            weighted scalar, where the adapter has one.
        """
        captions = (tokens, eos_positions)
        features = in_chunks(lambda *rows: self.encode_text(*rows, lang), captions, self.encode_chunk)
        if images is not None:
            features["image"] = in_chunks(self.vision, (images,), self.encode_chunk)
        return features

    def encode_text(self, tokens: Tensor, eos_positions: Tensor, lang: Optional[str]) -> Dict[str, Tensor]:
        """The text half of :meth:`forward`."""
        if self.adapter is None:
            return {"text": self.text(tokens, eos_positions)}
        adapted = self.adapter(self.text, tokens, eos_positions, lang or self.adapter.languages[-1])
        features = {"text": adapted.features}
        if adapted.auxiliary_loss is not None:
            features["auxiliary_loss"] = adapted.auxiliary_loss
        return features

    @property
    def temperature(self) -> Tensor:
        """Scalar that divides cosines, at least 0.01."""
        return temperature(self.logit_scale)

    # Weights to start from.
    def load_weights(self, weights: CLIPWeights, growth) -> None:
        """Copy tower weights; the vocabulary's new rows are drawn as `growth` says (:class:`GrowthOptions`).

        Raises:
            UserError: the dimensions are not this model's.
        """
        self._check_dimensions(weights)
        text = dict(weights.text)
        rows = self.text.token_embedding.num_embeddings
        text["token_embedding.weight"] = growth.grow(text["token_embedding.weight"], rows)
        self.text.load_state_dict(text)
        if isinstance(self.vision, CLIPVisionTower) and weights.vision:
            self.vision.load_state_dict(weights.vision)
        if self.vision is not None and weights.logit_scale is not None:
            self.logit_scale.data.fill_(weights.logit_scale)

    def _check_dimensions(self, weights: CLIPWeights) -> None:
        pairs = [("text", self.text, weights.text_config)]
        if isinstance(self.vision, CLIPVisionTower) and weights.vision_config:
            pairs.append(("vision", self.vision, weights.vision_config))
        for name, tower, config in pairs:
            own, given = tower_dimensions(tower), asdict(config)
            differ = [f"{key} {given[key]}, not {own[key]}" for key in own if own[key] != given[key]]
            if differ:
                raise UserError(f"{weights.source}: the {name} tower has {'; '.join(differ)}: choose another --arch")
        if len(weights.text["token_embedding.weight"]) > self.text.token_embedding.num_embeddings:
            raise UserError(f"{weights.source}: its vocabulary is larger than the corpus's; was it grown already?")

    # What is frozen and what is saved.
    def freeze(self, pattern: str, leave_out: bool) -> None:
        """Freeze parameters whose name matches `pattern`; with `leave_out`, keep them out of checkpoints, too.

        Raises:
            UserError: the pattern is no regular expression, matches nothing, or leaves nothing to train.
        """
        try:
            frozen = [name for name, _ in self.named_parameters() if pattern and re.search(pattern, name)]
        except re.error as error:
            raise UserError(f"--freeze '{pattern}' is no regular expression: {error}") from None
        if pattern and not frozen:
            raise UserError(f"--freeze '{pattern}' matches no parameter")
        parameters = dict(self.named_parameters())
        if len(frozen) == len(parameters):
            raise UserError(f"--freeze '{pattern}' leaves nothing to train")
        for name in frozen:
            parameters[name].requires_grad = False
        if leave_out and frozen:
            digest = fingerprint({name: parameters[name] for name in frozen})
            self.leave_out("frozen", frozen, digest, "--init-from holds, or with another --freeze")

    # What happens to a checkpoint on its way in.
    def upgrade_state_dict_named(self, state: Dict[str, Tensor], name: str) -> None:
        """Fill in frozen tensors, and hand the language before over to this one: grow embedding and token counts.

        Raises:
            UserError: the checkpoint was trained on other frozen weights, or does not fit this place of the sequence.
        """
        prefix = f"{name}." if name else ""
        if not self.left_out and prefix + "frozen_fingerprint" in state:
            raise UserError("the checkpoint leaves out frozen weights: say with --init-from where they are")
        self.fill_in(state, prefix)
        if self.language_state is not None:
            self._hand_over(state, prefix)
        super().upgrade_state_dict_named(state, name)

    def _hand_over(self, state: Dict[str, Tensor], prefix: str) -> None:
        inner = prefix + "language_state."
        if inner + "position" not in state:
            raise UserError("the checkpoint has not learned any language; start from it with --init-from")
        self.has_learned, self.is_fresh = True, self.language_state.is_handover(state, inner)
        if self.is_fresh:
            embedding = prefix + EMBEDDING
            apply_idle_decay(state, embedding)
            rows = self.text.token_embedding.num_embeddings
            state[embedding + "weight"] = self.growth.grow(state[embedding + "weight"], rows)
            self.language_state.hand_over(state, inner)
            hand_over_plugins(self.continual, state, prefix + "continual.", self)
        self._hand_over_adapter(state, prefix + ADAPTER)

    def _hand_over_adapter(self, state: Dict[str, Tensor], prefix: str) -> None:
        if self.adapter is not None:
            if self.is_fresh:
                self.adapter.hand_over(state, prefix)
            self.adapter.check(state, prefix)
        elif any(name.startswith(prefix) for name in state):
            raise UserError("the checkpoint was trained with an adapter: give the same --adapter and its options")

    def begin_language(self, state: LanguageState, growth, plugins: nn.ModuleDict) -> None:
        """Make this the model of one language of a sequence; called before a checkpoint is loaded."""
        self.language_state, self.growth, self.continual = state, growth, plugins


@dataclass(frozen=True)
class GrowthOptions:
    """How the embedding rows of new tokens are drawn; see :func:`grow_rows`."""

    mean: float = 0.0
    std: float = 0.02
    seed: int = 1

    def grow(self, weight: Tensor, rows: int) -> Tensor:
        return grow_rows(weight, rows, self.mean, self.std, self.seed)


def build_text_adapter(cfg: ClipConfig, tower: CLIPTextTower, task) -> Optional[TextAdapter]:
    """What a configuration adds to the text tower for the task's languages; None: nothing.

    Raises:
        UserError: the task does not learn languages one after another.
    """
    if str(cfg.adapter) == "none":
        return None
    if len(getattr(task, "current", ())) != 1:
        raise UserError(f"--adapter {cfg.adapter} is for languages that are learned one after another (cll_retrieval)")
    seed = task.seed_for(ADAPTER_SEEDS + task.position)
    return build_adapter(str(cfg.adapter), cfg, TowerShape.of(tower), task.languages, seed)


def build_image_tower(cfg: ClipConfig, feature_dim: int) -> nn.Module:
    """The image tower a configuration asks for; `feature_dim`: dimension of the corpus's given features."""
    if str(cfg.image_tower) == "features":
        return FeatureHead(cfg.image_feature_dim or feature_dim, cfg.vision_width, cfg.embed_dim, cfg.image_dropout)
    return CLIPVisionTower(
        cfg.image_size, cfg.patch_size, cfg.vision_width, cfg.vision_layers, cfg.vision_heads, cfg.embed_dim
    )


def tower_dimensions(tower: nn.Module) -> Dict[str, int]:
    """The dimensions of a tower that a checkpoint must share."""
    blocks = tower.transformer.resblocks
    shared = {
        "layers": len(blocks),
        "heads": blocks[0].attn.heads,
        "mlp_width": blocks[0].mlp.c_fc.out_features,
    }
    if isinstance(tower, CLIPTextTower):
        width, embed_dim = tower.text_projection.shape
        return {"width": width, "embed_dim": embed_dim, "context_length": tower.context_length, **shared}
    width, embed_dim = tower.proj.shape
    return {
        "width": width,
        "embed_dim": embed_dim,
        "image_size": tower.image_size,
        "patch_size": tower.conv1.kernel_size[0],
        **shared,
    }
