"""What a tower offers, and which there are: one kind a file of this folder, under a name and with named dimensions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Dict, List, Mapping, NamedTuple, Optional, Tuple, Type

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.errors import NoPlaceError, UserError
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.registry import import_modules

LOCAL_LAYERS = 4  # of a vision transformer with regions (X-VLM, Zeng et al. 2022)


class TowerOutput(NamedTuple):
    """A batch of texts or images as a tower sees it.

    Attributes:
        vector: [B, width], what stands for the whole: the state of the class token, or a mean.
        states: [B, T, width], one for each token or patch; None: the tower keeps none.
        mask: bool [B, T], True where `states` have a meaning; None: everywhere.
    """

    vector: Tensor
    states: Optional[Tensor] = None
    mask: Optional[Tensor] = None


@dataclass(frozen=True)
class Parts:
    """Where the parts of a tower are that can be trained by themselves: regular expressions on the tower's own names of
    parameters (`re.search`). A tower without a part has None there.

    Attributes:
        norm: normalisation layers. dense: feed-forward layers. attention: attention layers.
        last: the last block, and what follows it. adapter: adapters. bias: all biases.
        block: block ``{}`` with all that is in it.
    """

    norm: Optional[str]
    dense: Optional[str]
    attention: Optional[str]
    last: Optional[str]
    block: Optional[str]
    adapter: str = r"adapter"
    bias: str = r"bias$"


class Tower(nn.Module, ABC):
    """Base of image and text towers.

    Attributes:
        width: of vectors and states.
        parts: see :class:`Parts`; of the tower as it is, appended blocks included.
    """

    width: int

    @property
    @abstractmethod
    def parts(self) -> Parts: ...

    def insert_adapters(self, reduction: int) -> None:
        """Put an adapter of bottleneck ``width // reduction`` into every block (LilT, section 3: layerwise adapters).

        Raises:
            NoPlaceError: this kind of tower has no place for them.
        """
        raise NoPlaceError(f"there are no layerwise adapters for a {type(self).__name__}")

    def append_block(self) -> None:
        """Put a fresh block behind the last one (LilT, section 3: deep adapters).

        Raises:
            NoPlaceError: this kind of tower has no blocks.
        """
        raise NoPlaceError(f"no block can be appended to a {type(self).__name__}")


class ImageTower(Tower):
    """Pictures, or given features of them, to vectors.

    Attributes:
        image_size: height and width of the pictures in pixels; None: it takes features.
        feature_shape: shape of one image's features, ``(dims,)`` or ``(N, dims)``; None: it takes pictures.
        keeps_states: whether states are wanted; where they are not, a tower may leave out what only they need.
        has_class_token: whether the first state is that of a class token, and not of a patch.
    """

    has_class_token: bool = False
    image_size: Optional[int] = None
    feature_shape: Optional[tuple] = None
    keeps_states: bool = False

    @abstractmethod
    def forward(self, images: Tensor) -> TowerOutput:
        """Images [B, 3, image_size, image_size], normalised, or features [B, *feature_shape].

        Raises:
            ValueError: they have another shape.
        """

    def regions(self, images: Tensor, image_of: Tensor, patches: Tensor) -> Tuple[TowerOutput, TowerOutput]:
        """Parts of images, and the whole images (X-VLM, Zeng et al. 2022, section 3.1). By default a part is the mean
        of its patches, whose states have seen the whole image.

        Args:
            images: [I, ...], as :meth:`forward` takes them. image_of: int64 [B], the image of each part.
            patches: bool [B, N], the patches of each part, one at least.

        Returns:
            those of B parts, their states those of all patches of their images; and of I images.

        Raises:
            UserError: this kind of tower knows no patches.
        """
        whole = self(images)
        if whole.states is None:
            raise UserError(f"a {type(self).__name__} has no patches, which regions of images are made of")
        states = whole.states[image_of]
        shares = patches / patches.sum(1, keepdim=True)
        return TowerOutput(torch.einsum("bn,bnd->bd", shares.to(states.dtype), states), states), whole

    @staticmethod
    def first_local(blocks: int, local_layers: int) -> int:
        """Number of the first block in which a region sees itself only: the last `local_layers` do, all where there are
        fewer.

        Raises:
            UserError: it is none.
        """
        if local_layers < 1:
            raise UserError(f"local layers {local_layers}: regions of images need one at least")
        return max(0, blocks - local_layers)

    @staticmethod
    def side_by_side(x: Tensor, image_of: Tensor, patches: Tensor) -> Tuple[Tensor, Tensor]:
        """For towers with a class token: a copy of an image's states for each region, with the images behind them.

        Args:
            x: [I, 1 + N, width]. image_of, patches: see :meth:`regions`.

        Returns:
            [B + I, 1 + N, width], and bool [B + I, 1, 1, 1 + N], the tokens that each looks at.
        """
        seen = torch.cat([patches, patches.new_ones(len(x), patches.shape[1])])
        return torch.cat([x[image_of], x]), F.pad(seen, (1, 0), value=True)[:, None, None]

    @staticmethod
    def apart(states: Tensor, regions: int) -> Tuple[TowerOutput, TowerOutput]:
        """What :meth:`side_by_side` put together: of the regions, and of the images."""
        own, whole = states[:regions], states[regions:]
        return TowerOutput(own[:, 0], own), TowerOutput(whole[:, 0], whole)

    def require_shape(self, images: Tensor) -> None:
        """Raises ValueError: images or features are not what :meth:`forward` takes."""
        expected = self.feature_shape or (3, self.image_size, self.image_size)
        if images.shape[1:] != expected:
            what = "features" if self.feature_shape else "images"
            raise ValueError(f"{what} of shape {tuple(images.shape[1:])} given to an image tower for {expected}")


class TextTower(Tower):
    """Token ids to vectors.

    Attributes:
        vocab_size: rows of the token embedding. max_length: longest text in tokens, special ones included.
        tokenizer: name of the kind of tokenizer (`mlvl_fairseq.data.text`) whose ids it was made for.
        growing_embedding: name within the tower of its token embedding where that is an ``ExpandableEmbedding``, whose
            rows can grow and train by themselves; None: it has no such.
        keeps_states: whether states are wanted; where they are not, a tower may leave out what only they need.
    """

    vocab_size: int
    max_length: int
    tokenizer: ClassVar[str]
    growing_embedding: ClassVar[Optional[str]] = None
    keeps_states: bool = False

    @abstractmethod
    def forward(self, tokens: Tensor, last: Tensor, lengths: Lengths = None) -> TowerOutput:
        """Encode texts.

        Args:
            tokens: int64 [B, T] ids, padded on the right, ``T <= max_length``.
            last: int64 [B], position of each text's last token: everything behind it is padding.
            lengths: int64 [B], see :class:`~mlvl_fairseq.modules.packing.Packing`.

        Raises:
            ValueError: T is larger than `max_length`.
        """


class TowerKind(NamedTuple):
    """A kind of tower and its dimensions.

    Attributes:
        config: dataclass of dimensions with ``build() -> Tower``.
        presets: name -> those fields of `config` that differ from its defaults.
    """

    config: Type[Any]
    presets: Mapping[str, Mapping[str, Any]]


IMAGE_TOWERS: Dict[str, TowerKind] = {}
TEXT_TOWERS: Dict[str, TowerKind] = {}


def register_image_tower(presets: Mapping[str, Mapping[str, Any]]) -> Callable[[Type[Any]], Type[Any]]:
    """Class decorator of a config: ``--image-tower NAME`` for each name of `presets`."""
    return _register(IMAGE_TOWERS, presets)


def register_text_tower(presets: Mapping[str, Mapping[str, Any]]) -> Callable[[Type[Any]], Type[Any]]:
    """Class decorator of a config: ``--text-tower NAME`` for each name of `presets`."""
    return _register(TEXT_TOWERS, presets)


def _register(towers: Dict[str, TowerKind], presets: Mapping[str, Mapping[str, Any]]):
    def register(config: Type[Any]) -> Type[Any]:
        for name in presets:
            if name in towers:
                raise ValueError(f"a tower '{name}' is registered already")
            towers[name] = TowerKind(config, presets)
        return config

    return register


def tower_config(towers: Dict[str, TowerKind], option: str, name: str, **dimensions: Any) -> Any:
    """The config of a named tower.

    Args:
        towers: IMAGE_TOWERS or TEXT_TOWERS. option: the user's, for messages.
        dimensions: fields that replace the preset's; None: the preset's. One that the kind does not have is refused.

    Raises:
        UserError: there is no such tower, or it has no such dimension.
    """
    if name not in known(towers):
        raise UserError(f"{option} {name}: there are {', '.join(sorted(towers))}")
    kind = towers[name]
    given = {field: value for field, value in dimensions.items() if value is not None}
    for field in given.keys() - kind.config.__dataclass_fields__.keys():
        raise UserError(f"{option} {name} has no {field}")
    return kind.config(**{**kind.presets[name], **given})


def known(towers: Dict[str, TowerKind]) -> List[str]:
    """The names of all towers: every module of this folder is imported."""
    import_modules(__package__)
    return sorted(towers)
