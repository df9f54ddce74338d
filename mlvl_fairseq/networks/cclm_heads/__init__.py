"""What stands on a CCLM's fusion encoder: heads by name, for ``--heads``. A head is a module of this folder; all are
imported, so that a new one is one new file."""

from typing import Dict

from mlvl_fairseq.networks.cclm_heads.base import HEADS as _REGISTERED
from mlvl_fairseq.networks.cclm_heads.base import (
    Head,
    HeadOptions,
    add_heads,
    chosen,
    compares_images,
    is_beside_contrast,
    started,
)
from mlvl_fairseq.registry import import_modules

import_modules(__name__)

HEADS: Dict[str, Head] = dict(sorted(_REGISTERED.items(), key=lambda item: item[1].rank))
ALL = ",".join(name for name, head in HEADS.items() if head.pretrains)

__all__ = [
    "ALL",
    "HEADS",
    "Head",
    "HeadOptions",
    "add_heads",
    "chosen",
    "compares_images",
    "is_beside_contrast",
    "started",
]
