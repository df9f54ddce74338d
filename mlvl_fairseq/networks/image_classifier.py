"""An image tower with a linear classifier behind it: how towers such as DeiT are trained before they are aligned."""

from dataclasses import dataclass, field
from typing import Any, Dict

from torch import Tensor, nn

from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS, ImageTower, known
from mlvl_fairseq.networks.dual_encoder import ARCHITECTURES as DUAL_ENCODERS
from mlvl_fairseq.networks.dual_encoder import TRANSFORM, Transform

HEAD = "head"
_TOWER = "tower."


@dataclass
class ImageClassifierOptions:
    """``--arch`` sets them."""

    image_tower: str = field(
        default="vit_base", metadata={"help": f"the image tower: {', '.join(known(IMAGE_TOWERS))}"}
    )
    transform: Transform = field(
        default=Transform(TRANSFORM),
        metadata={"help": "what makes pictures to the input of the image tower, see model dual_encoder"},
    )


ARCHITECTURES: Dict[str, Dict[str, Any]] = {
    # the image tower of lilt_nano
    "image_classifier_nano": {key: v for key, v in DUAL_ENCODERS["lilt_nano"].items() if key.startswith("image_")},
}


class ImageClassifierNetwork(nn.Module):
    """Pictures to scores of classes.

    Its state dict has the names of published classifiers, the tower's own and ``head``: whatever reads DeiT's files as
    a tower reads its checkpoints.

    Args:
        tower: takes pictures. classes: how many. transform: what cuts pictures for the tower.

    Raises:
        UserError: the tower takes features.
    """

    def __init__(self, tower: ImageTower, classes: int, transform: str = TRANSFORM):
        super().__init__()
        if tower.image_size is None:
            raise UserError(f"a {type(tower).__name__} has no pictures to classify: choose another --image-tower")
        self.tower, self.head = tower, nn.Linear(tower.width, classes)
        self.preprocess = ImageTransform(transform, tower.image_size)

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        """Images [B, 3, size, size] -> ``logits`` [B, classes]."""
        return {"logits": self.head(self.tower(images).vector)}

    def state_dict(self, *args, **kwargs) -> Dict[str, Tensor]:
        state, before = super().state_dict(*args, **kwargs), kwargs.get("prefix", "")
        return {
            before + name.removeprefix(before).removeprefix(_TOWER) if name.startswith(before) else name: tensor
            for name, tensor in state.items()
        }

    def load_state_dict(self, state: Dict[str, Tensor], *args, **kwargs):
        """As :meth:`state_dict` gives it."""
        named = {name if name.startswith(f"{HEAD}.") else _TOWER + name: tensor for name, tensor in state.items()}
        return super().load_state_dict(named, *args, **kwargs)
