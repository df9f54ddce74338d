"""What a head is, and how a network gets its heads."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Type

from torch import Tensor, nn

from mlvl_fairseq.checkpoints.source import Tensors
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.networks.base import Encoded
from mlvl_fairseq.registry import registering


@dataclass
class HeadOptions:
    heads: Optional[str] = field(
        default=None,
        metadata={
            "help": "what stands on the fusion encoder, with commas: matching, masked_lm, boxes (pre-training); labels "
            "(classes of images with texts), answers (a decoder), which_image (which of two images a text is about); "
            "what is left out is neither there nor trained. By default what the task asks for"
        },
    )
    images_per_text: Optional[int] = field(
        default=None,
        metadata={
            "help": "images that a text is read beside, each in its own copy of every fusion layer. By default what "
            "the task asks for, or 1"
        },
    )
    num_labels: int = field(default=0, metadata={"help": "classes of head labels; the task says it"})
    decoder_layers: Optional[int] = field(
        default=None, metadata={"help": "layers of head answers; by default as many as --fusion-layers"}
    )


class Head(ABC):
    """A kind of head.

    Attributes:
        attribute: its name in the network, where it is None unless it is chosen.
        rank: heads are built, and draw their first weights, in this order.
        pretrains: it belongs to pre-training, where texts and images are compared by their vectors, too.
        several_images: it can read texts beside several images.
        compares_images: it takes images' vectors, as they are, for which there is a projection.
    """

    attribute: ClassVar[str]
    rank: ClassVar[int]
    pretrains: ClassVar[bool] = False
    several_images: ClassVar[bool] = False
    compares_images: ClassVar[bool] = False

    @abstractmethod
    def build(self, text: BertConfig, options: HeadOptions, fusion_layers: int) -> nn.Module:
        """A random one. Raises UserError: an option does not fit."""

    def started(self, tensors: Tensors, layers: int) -> Tensors:
        """The weights it starts with where a checkpoint lacks it.

        Args:
            tensors: of the checkpoint, by the network's names. layers: of the head, where it has such.

        Returns:
            by the names in the head; none: it is random.
        """
        return {}

    def run(self, network: nn.Module, text: Encoded, image: Optional[Encoded], **more: Tensor) -> Dict[str, Tensor]:
        """What the network says of a batch, for `forward(..., head=NAME)`.

        Args:
            network: :class:`mlvl_fairseq.networks.cclm.CclmNetwork`. text: of B rows. image: of B rows, or of B *
                images_per_text; None: texts are read by themselves.

        Raises:
            UserError: pre-training asks this head, nothing else.
        """
        raise UserError(f"a {type(self).__name__} head is for pre-training")


HEADS: Dict[str, Head] = {}


def register_head(name: str) -> Callable[[Type[Head]], Type[Head]]:
    """Class decorator."""
    return registering(HEADS, "a head", name, instance=True)


def chosen(names: str) -> List[str]:
    """Names of heads out of a list with commas.

    Raises:
        UserError: there is no such head.
    """
    found = [name.strip() for name in names.split(",") if name.strip()]
    for name in found:
        if name not in HEADS:
            raise UserError(f"--heads {names}: there is no '{name}', there are {', '.join(_in_order())}")
    return found


def _in_order() -> Mapping[str, Head]:
    return dict(sorted(HEADS.items(), key=lambda item: item[1].rank))


def is_beside_contrast(names: str) -> bool:
    """Whether a network with these heads compares vectors of texts and images: all but fine-tuned classifiers."""
    found = chosen(names)
    return not found or any(HEADS[name].pretrains for name in found)


def compares_images(names: str) -> bool:
    """Whether a head takes images' vectors, see :class:`Head`."""
    return any(HEADS[name].compares_images for name in chosen(names))


def add_heads(network: nn.Module, names: str, text: BertConfig, options: Any, fusion_layers: int) -> None:
    """Give a network its heads; what is not among them is None.

    Raises:
        UserError: there is no such head, or it does not read several images.
    """
    wanted = chosen(names)
    for name, head in _in_order().items():
        if name in wanted and (options.images_per_text or 1) > 1 and not head.several_images:
            raise UserError(f"--heads {name} reads a text beside one image: leave --images-per-text out")
        setattr(network, head.attribute, head.build(text, options, fusion_layers) if name in wanted else None)


def started(network: nn.Module, first: Tensors, tensors: Tensors) -> Tensors:
    """What the heads of a network start with that a file lacks, by the network's names.

    Args:
        tensors: of the file. first: the same, of the copies of a fusion layer only the first.
    """
    found = {}
    for head in HEADS.values():
        own, prefix = getattr(network, head.attribute), f"{head.attribute}."
        if own is not None and not any(name.startswith(prefix) for name in tensors):
            given = head.started(first, len(getattr(own, "layer", ())))
            found.update({prefix + name: tensor for name, tensor in given.items()})
    return found
