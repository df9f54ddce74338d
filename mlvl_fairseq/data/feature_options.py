"""How a teacher's features are computed and kept, as options."""

from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class FeatureOptions:
    """How a teacher encodes a corpus. What is not by default stands in the manifest of features, and no extraction goes
    on with anything else."""

    feature_dtype: Optional[str] = field(
        default=None,
        metadata={
            "help": "type of the teacher's features in files; float16 takes half the space (default: float16 where its "
            "weights are of it, else float32; what is there already is continued as it is)",
            "choices": ("float16", "float32"),
        },
    )
    autocast: Optional[str] = field(
        default=None,
        metadata={
            "help": "let torch compute the teacher's products in this type, for GPUs (default: float32 throughout)",
            "choices": ("bf16", "fp16"),
        },
    )
    draft_jpeg: bool = field(
        default=False,
        metadata={
            "help": "decode large JPEG files at 1/2, 1/4 or 1/8 of their size, where that is not smaller than what the "
            "teacher's transform resizes to: less work, and pixels (so features) that are NOT those of the usual way",
        },
    )
