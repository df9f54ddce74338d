"""Options of CCLMs, and their architectures by name."""

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.networks.cclm_heads import ALL, chosen
from mlvl_fairseq.networks.cclm_negatives import NEGATIVES
from mlvl_fairseq.networks.dual_encoder import DualEncoderOptions, Transform
from mlvl_fairseq.options import choice

Negatives = choice("Negatives", *NEGATIVES)


def _help_of(option: str) -> Mapping[str, Any]:
    return DualEncoderOptions.__dataclass_fields__[option].metadata


@dataclass
class CclmTowerOptions(DualEncoderOptions):
    """The towers of a dual encoder, by default those of CCLM."""

    image_tower: str = field(default="swin_base", metadata=_help_of("image_tower"))
    text_tower: str = field(default="cclm_xlmr_large", metadata=_help_of("text_tower"))
    transform: Transform = field(default=Transform.lilt, metadata=_help_of("transform"))


@dataclass
class FusionOptions:
    """What a CCLM has beside its towers; ``--arch`` sets them all at once."""

    fusion_layers: int = field(
        default=6, metadata={"help": "layers of the fusion encoder, of the text tower's dimensions"}
    )
    one_projection: bool = field(
        default=False,
        metadata={
            "help": "project images as texts are, which needs towers of the same width; by default each has its own"
        },
    )
    negatives: Negatives = field(
        default=Negatives.local,
        metadata={
            "help": "rows that hard negatives for matching are drawn from: local, of the own rank, as published; "
            "gather, of all ranks"
        },
    )


SWIN = {"image_tower": "swin_base", "image_drop_path": 0.1}
ARCHITECTURES: Dict[str, Dict[str, Any]] = {
    "cclm_base": SWIN,
    "cclm_base_384": {**SWIN, "image_size": 384, "image_window": 12},
    "cclm_clip": {"image_tower": "clip_vit_b16"},
    "cclm_deit": {"image_tower": "vit_base", "image_size": 224},
    # for pictures of 64 pixels and vocabularies of a few thousand pieces, on a CPU
    "cclm_nano": {
        "image_tower": "swin_nano",
        "image_drop_path": 0.1,
        "text_tower": "cclm_xlmr_nano",
        "fusion_layers": 3,
        "embed_dim": 128,
    },
    # the same, for tests
    "cclm_tiny": {
        "image_tower": "swin_nano",
        "image_width": 8,
        "text_tower": "cclm_xlmr_nano",
        "text_width": 32,
        "text_layers": 2,
        "fusion_layers": 2,
        "embed_dim": 16,
    },
}


def take_shape(options, shape: Optional[Tuple[int, ...]]) -> None:
    """Let options say the shape of given features, so that the checkpoint does.

    Raises:
        UserError: there are pictures.
    """
    if shape is None:
        raise UserError(f"--image-tower {options.image_tower} takes given features, and the data have pictures")
    options.image_feature_dim = shape[-1] if options.image_feature_dim is None else options.image_feature_dim
    if len(shape) > 1 and options.image_positions is None:
        options.image_positions = shape[0]


def take_task(options, task) -> None:
    """Let options say what a task asks of the heads, so that the checkpoint does.

    Args:
        options: :class:`mlvl_fairseq.networks.cclm_heads.HeadOptions`. task: its ``heads`` are names with commas,
            ``images_per_text`` is a number, ``classes`` are those of head labels; it need not have them.
    """
    if options.heads is None:
        options.heads = getattr(task, "heads", ALL)
    options.images_per_text = options.images_per_text or getattr(task, "images_per_text", None) or 1
    if "labels" in chosen(options.heads) and hasattr(task, "classes"):
        options.num_labels = len(task.classes)
