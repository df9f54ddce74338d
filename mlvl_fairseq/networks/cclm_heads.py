"""What stands on a CCLM's fusion encoder: heads by name, for ``--heads``."""

from typing import Callable, Dict, List, NamedTuple

from torch import nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.heads import LanguageModelHead, MlpHead
from mlvl_fairseq.modules.towers.bert import BertConfig


class HeadKind(NamedTuple):
    """A head.

    Attributes:
        attribute: its name in the network, where it is None unless it is chosen.
        build: makes one for a text side.
    """

    attribute: str
    build: Callable[[BertConfig], nn.Module]


HEADS: Dict[str, HeadKind] = {
    "matching": HeadKind("itm_head", lambda text: MlpHead(text.width, 2)),
    "masked_lm": HeadKind("lm_head", lambda text: LanguageModelHead(text.width, text.vocab_size, text.norm_eps)),
    "boxes": HeadKind("bbox_head", lambda text: MlpHead(text.width, 4)),
}
ALL = ",".join(HEADS)


def chosen(names: str) -> List[str]:
    """Names of heads out of a list with commas.

    Raises:
        UserError: there is no such head.
    """
    found = [name.strip() for name in names.split(",") if name.strip()]
    for name in found:
        if name not in HEADS:
            raise UserError(f"--heads {names}: there is no '{name}', there are {', '.join(HEADS)}")
    return found


def add_heads(network: nn.Module, names: str, text: BertConfig) -> None:
    """Give a network its heads; what is not among them is None."""
    wanted = chosen(names)
    for name, kind in HEADS.items():
        setattr(network, kind.attribute, kind.build(text) if name in wanted else None)
