"""TriKD (Chen et al. 2023) as a fairseq model: a frozen multilingual text encoder (MTE) and a frozen CLIP, brought into
one space by two small projectors. Only these, and the temperature, train and are saved."""

from dataclasses import dataclass, field
from typing import Dict, Optional

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from omegaconf import MISSING
from torch import Tensor

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, read_xlmr
from mlvl_fairseq.checkpoints.source import read_clip_weights
from mlvl_fairseq.checkpoints.trikd import read_trikd
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models._frozen import LeavesOutFrozen
from mlvl_fairseq.modules.chunking import in_chunks
from mlvl_fairseq.modules.temperature import new_logit_scale, temperature
from mlvl_fairseq.modules.towers.clip_vision import CLIPVisionTower
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrEncoder
from mlvl_fairseq.modules.x_projector import CProjector, XProjector

IMAGE_TOWERS = ("teacher", "vit", "features")


@dataclass
class TrikdConfig(FairseqDataclass):
    """Dimensions default to XLM-R base; ``--arch`` sets them all at once."""

    mte: str = field(
        default=MISSING,
        metadata={
            "help": "the frozen text encoder: a file of `mlvl-export mte`, model.pt of XLM-R or its folder, or a "
            "checkpoint of task mte_pretraining"
        },
    )
    frozen_dropout: bool = field(
        default=False,
        metadata={"help": "let dropout work in the frozen text encoder while training, as published; by default off"},
    )
    image_tower: ChoiceEnum(IMAGE_TOWERS) = field(
        default="teacher",
        metadata={
            "help": "what the C-projector takes: teacher, CLIP's features as `mlvl-prepare --teacher` stored them; "
            "vit, pictures, through the frozen image tower of --clip; features, given features of any other network "
            "(`mlvl-prepare --image-features`), which has no texts: train with --loss-type nott"
        },
    )
    clip: Optional[str] = field(
        default=None,
        metadata={
            "help": "the frozen CLIP: an official file, a Hugging Face folder or a checkpoint of this plugin. Needed "
            "with --image-tower vit; with teacher it is only checked to be the one that computed the features, and "
            "remembered for evaluation"
        },
    )
    encoder_layers: int = field(default=2, metadata={"help": "layers of the X-projector"})
    encoder_embed_dim: int = field(default=768, metadata={"help": "width of text encoder, X-projector and space"})
    encoder_ffn_embed_dim: int = field(default=3072, metadata={"help": "inner width of the X-projector"})
    encoder_attention_heads: int = field(default=12, metadata={"help": "attention heads of the X-projector"})
    dropout: float = field(default=0.3, metadata={"help": "dropout in the X-projector"})
    attention_dropout: float = field(default=0.1, metadata={"help": "dropout of the X-projector's attention"})
    encode_chunk: int = field(
        default=0,
        metadata={
            "help": "encode so many captions, and pictures, of a batch at a time; 0: all at once. The X-projector then "
            "needs the memory of so many rows whatever the --batch-size, with the same gradients"
        },
    )
    init_projectors_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "start from the projectors and the temperature of this checkpoint, e.g. to fine-tune; its frozen "
            "encoders must be the same"
        },
    )
    reset_temperature: bool = field(
        default=False,
        metadata={"help": "with --init-projectors-from: let the temperature start at 0.07 again, as published"},
    )


@register_model("trikd", dataclass=TrikdConfig)
class TrikdModel(LeavesOutFrozen, BaseFairseqModel):
    """X-projector over a frozen text encoder, C-projector over a frozen CLIP's images and English texts.

    Attributes:
        x_projector: :class:`XProjector`. c_projector: :class:`CProjector`. logit_scale: log of inverse temperature.
        mte: :class:`XlmrEncoder`, None where its states are given.
        vision: image tower of CLIP, None where its features are given.
        frozen_dropout: whether dropout of `mte` works in training. encode_chunk: rows encoded at a time, 0: all.
    """

    needs_of_task = ("source_dictionary", "image_feature_dim", "cached_states", "teacher_fingerprint")

    def __init__(
        self,
        x_projector: XProjector,
        c_projector: CProjector,
        mte: Optional[XlmrEncoder] = None,
        vision: Optional[CLIPVisionTower] = None,
        frozen_dropout: bool = False,
        encode_chunk: int = 0,
    ):
        super().__init__()
        self.x_projector, self.c_projector, self.logit_scale = x_projector, c_projector, new_logit_scale()
        self.mte, self.vision = mte, vision
        self.frozen_dropout, self.encode_chunk = frozen_dropout, encode_chunk
        for frozen in (mte, vision):
            if frozen is not None:
                frozen.requires_grad_(False)

    @classmethod
    def build_model(cls, cfg: TrikdConfig, task) -> "TrikdModel":
        """Build for task ``trikd``, which tells what is cached and whose features these are.

        Raises:
            UserError: options that do not fit together, or files that do not fit them.
        """
        check_options(cfg, task)
        mte = read_xlmr(cfg.mte)
        mte.require_vocabulary(len(task.source_dictionary))
        mte.require_positions(task.max_positions())
        check_width(cfg, mte)
        clip = read_clip_weights(cfg.clip) if cfg.clip else None
        vision = clip.vision_tower() if str(cfg.image_tower) == "vit" else None
        clip_dim = task.image_feature_dim if vision is None else clip.vision_config.embed_dim
        width, ffn_width, heads = cfg.encoder_embed_dim, cfg.encoder_ffn_embed_dim, cfg.encoder_attention_heads
        model = cls(
            XProjector(width, ffn_width, heads, cfg.encoder_layers, cfg.dropout, cfg.attention_dropout),
            CProjector(clip_dim, width),
            None if task.cached_states else mte.encoder(),
            vision,
            cfg.frozen_dropout,
            cfg.encode_chunk,
        )
        model.leave_out_part("mte", mte.fingerprint, "--mte holds")
        clip_fingerprint = clip.fingerprint if vision is not None else task.teacher_fingerprint
        if clip_fingerprint:
            model.leave_out_part("vision", clip_fingerprint, "--clip holds, or other teacher features", "clip")
        if cfg.init_projectors_from:
            model.start_from(cfg.init_projectors_from, cfg.reset_temperature)
        return model

    def leave_out_part(self, module: str, digest: str, where: str, name: Optional[str] = None) -> None:
        """Keep a frozen module, which need not be there, out of checkpoints."""
        own = getattr(self, module)
        names = [] if own is None else [f"{module}.{inner}" for inner in own.state_dict()]
        self.leave_out(name or module, names, digest, where)

    def start_from(self, path, reset_temperature: bool) -> None:
        """Copy the projectors of a checkpoint. Raises UserError: it has others, or other frozen encoders."""
        state = dict(read_trikd(path).tensors)
        if reset_temperature:
            state["logit_scale"] = self.logit_scale.data
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"--init-projectors-from {path} does not fit this model: {reason}") from None

    def train(self, mode: bool = True) -> "TrikdModel":
        super().train(mode)
        if self.vision is not None:
            self.vision.eval()
        if self.mte is not None and not self.frozen_dropout:
            self.mte.eval()
        return self

    def max_positions(self) -> Optional[int]:
        return None if self.mte is None else self.mte.config.max_positions

    def forward(
        self,
        tokens: Tensor,
        eos_positions: Tensor,
        states: Optional[Tensor] = None,
        images: Optional[Tensor] = None,
        english: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Encode captions, and what is given beside them.

        Args:
            tokens: [B, T] ids of XLM-R, padded on either side. eos_positions: [B].
            states: [B, T, width] of the text encoder; None: it runs.
            images: [B, clip_dim] features, or [B, 3, H, W] pixels with an image tower.
            english: [B, clip_dim] CLIP features of English captions.

        Returns:
            ``text`` and, as far as given, ``image`` and ``english``, each [B, width], not normalised.
        """
        features = {"text": self.encode_text(tokens, eos_positions, states)}
        if images is not None:
            features["image"] = self.c_projector(self.encode_images(images))
        if english is not None:
            features["english"] = self.c_projector(english)
        return features

    def encode_text(self, tokens: Tensor, eos_positions: Tensor, states: Optional[Tensor] = None) -> Tensor:
        """[B, width]. Of a batch in chunks the frozen encoder runs once, only the X-projector twice."""
        if states is None:
            with torch.no_grad():
                states = in_chunks(self.mte, (tokens,), self.encode_chunk)
        return in_chunks(self.x_projector, (states, tokens.eq(PAD), eos_positions), self.encode_chunk)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """[B, clip_dim], frozen."""
        return images if self.vision is None else in_chunks(self.vision, (images,), self.encode_chunk)

    @property
    def temperature(self) -> Tensor:
        """Scalar that divides the cosines of captions and images, at least 0.01."""
        return temperature(self.logit_scale)

    def upgrade_state_dict_named(self, state: Dict[str, Tensor], name: str) -> None:
        """Fill in the frozen tensors. Raises UserError: the checkpoint was trained on other frozen weights."""
        self.fill_in(state, f"{name}." if name else "")
        super().upgrade_state_dict_named(state, name)


def check_options(cfg: TrikdConfig, task) -> None:
    """Raises UserError: options that do not go together."""
    if cfg.encode_chunk < 0:
        raise UserError(f"--encode-chunk {cfg.encode_chunk} is no number of rows; 0 encodes all at once")
    if str(cfg.image_tower) == "vit" and not cfg.clip:
        raise UserError("--image-tower vit needs the frozen CLIP: give --clip PATH")
    if cfg.frozen_dropout and task.cached_states:
        raise UserError("--cached-states are those without dropout: leave it out, or --frozen-dropout")
    if cfg.reset_temperature and not cfg.init_projectors_from:
        raise UserError("--reset-temperature goes with --init-projectors-from: a new training starts there anyway")


def check_width(cfg: TrikdConfig, mte: XlmrWeights) -> None:
    """Raises UserError: the text encoder has another width than the options say."""
    if mte.config.width != cfg.encoder_embed_dim:
        raise UserError(
            f"{mte.source} has width {mte.config.width}, not {cfg.encoder_embed_dim}: choose another --arch or "
            "--encoder-embed-dim"
        )
