"""A dual encoder of any image tower and any text tower, as LilT aligns them (Khan and Fu 2023): each gives one vector,
which a linear projection takes into the space of both."""

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, ClassVar, Dict, Optional, Tuple, Union, get_args, get_origin

import torch
from torch import Tensor, nn

from mlvl_fairseq.checkpoints.check import holding
from mlvl_fairseq.checkpoints.source import Tensors, WeightFormat, WeightSource, add_prefix
from mlvl_fairseq.checkpoints.towers.base import read_tower
from mlvl_fairseq.data.images.transforms import ImageTransform, transform_names
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.chunking import PerRow
from mlvl_fairseq.modules.heads import INITIAL_TEMPERATURE, new_logit_scale, temperature
from mlvl_fairseq.modules.low_rank import merge_lora
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.modules.towers.base import (
    IMAGE_TOWERS,
    TEXT_TOWERS,
    ImageTower,
    TextTower,
    TowerKind,
    TowerOutput,
    known,
    tower_config,
)
from mlvl_fairseq.networks.base import Encoded, Network, Restored, register_network
from mlvl_fairseq.networks.frozen_tower import FrozenTower, draws, is_frozen
from mlvl_fairseq.networks.peft import LoraOptions, PeftOptions, add_parts
from mlvl_fairseq.options import choice

Transform = choice("Transform", *transform_names())
Temperature = choice("Temperature", "clamped", "log_scale")
BOUNDS = (0.001, 0.5)  # of the clamped temperature
TRANSFORM = "imagenet_square"
PLAIN = {int, float, str, bool}  # types of dimensions that options can say
STAGES = Tuple[int, ...]  # as numbers separated by commas


def dimension_names(side: str, kind: TowerKind) -> Dict[str, str]:
    """Option -> field of a kind of tower: ``image_width`` -> ``width``, ``image_size`` -> ``image_size``,
    ``image_stage_layers`` -> ``layers`` where each stage has a number of its own."""
    found = {}
    for name, own in kind.config.__dataclass_fields__.items():
        if _plain(own.type) and name != "vocab_size":
            given = f"stage_{name}" if own.type == STAGES else name
            found[given if given.startswith(f"{side}_") else f"{side}_{given}"] = name
    return found


def _plain(kind: Any) -> Optional[type]:
    """The type behind Optional[type], where options can say it."""
    if kind == STAGES:
        return str
    inner = [one for one in get_args(kind) if one is not type(None)] if get_origin(kind) is Union else [kind]
    return inner[0] if len(inner) == 1 and inner[0] in PLAIN else None


def dimension_options(side: str, towers: Dict[str, TowerKind]) -> type:
    """A dataclass with the dimensions of all towers of a side, each None by default: the named tower's own."""
    owners: Dict[str, Tuple[Any, list]] = {}
    for tower in known(towers):
        for option, name in dimension_names(side, towers[tower]).items():
            kind = _plain(towers[tower].config.__dataclass_fields__[name].type)
            owners.setdefault(option, (kind, []))[1].append(tower)
    found = []
    for option, (kind, names) in owners.items():
        about = f"overrides the {option.removeprefix(f'{side}_').replace('_', ' ')} of --{side}-tower"
        about += "" if len(names) == len(towers) else f" ({', '.join(names)})"
        found.append((option, Optional[kind], field(default=None, metadata={"help": about})))
    return make_dataclass(f"{side.capitalize()}Dimensions", found, namespace={"__module__": __name__})


@dataclass
class DualEncoderOptions:
    """``--arch`` sets towers; their dimensions follow from their names."""

    image_tower: str = field(
        default="vit_base", metadata={"help": f"the image tower: {', '.join(known(IMAGE_TOWERS))}"}
    )
    text_tower: str = field(default="bert_base", metadata={"help": f"the text tower: {', '.join(known(TEXT_TOWERS))}"})
    embed_dim: int = field(default=256, metadata={"help": "dimension of the space of texts and images"})
    temperature: Temperature = field(
        default=Temperature.clamped,
        metadata={
            "help": "clamped: a number that divides cosines, kept in [0.001, 0.5], as published; log_scale: the "
            "logarithm of its inverse, as in CLIP"
        },
    )
    transform: Transform = field(
        default=Transform(TRANSFORM),
        metadata={
            "help": "what makes pictures to the input of the image tower: imagenet_square, as DeiT was trained; lilt, "
            "the same with the statistics of CLIP, as published; clip, for the towers of CLIP"
        },
    )
    frozen_dropout: bool = field(
        default=False,
        metadata={"help": "let dropout work in frozen parts of towers while training, as published; by default off"},
    )


ARCHITECTURES: Dict[str, Dict[str, Any]] = {
    "lilt": {},
    "lilt_tiny": {"image_tower": "vit_tiny", "text_tower": "bert_tiny"},
    "lilt_small": {"image_tower": "vit_small", "text_tower": "bert_small"},
    "lilt_base": {},
    "lilt_large": {"image_tower": "deit3_large", "text_tower": "bert_large"},
    "lilt_base_dino": {"image_tower": "vit_base_dino"},
    "lilt_base_mlm": {"text_tower": "bert_base_mlm"},
    "lilt_base_mbert": {"text_tower": "bert_base_multilingual"},
    "lilt_base_xlmr": {"text_tower": "xlmr_base"},
    # for pictures of 64 pixels and vocabularies of a few thousand words, on a CPU
    "lilt_nano": {
        "image_tower": "vit_tiny",
        "text_tower": "bert_tiny",
        "embed_dim": 128,
        "image_size": 64,
        "image_width": 96,
        "image_layers": 3,
        "text_width": 96,
        "text_max_positions": 80,
    },
    # with a text tower as large as that of mte_tiny
    "lilt_nano_xlmr": {
        "image_tower": "vit_tiny",
        "text_tower": "xlmr_base",
        "embed_dim": 128,
        "image_size": 64,
        "image_width": 96,
        "image_layers": 3,
        "text_width": 128,
        "text_layers": 3,
        "text_heads": 4,
        "text_max_positions": 80,
    },
}


@dataclass(frozen=True)
class TowerConfigs:
    """What both towers are made of: the configs of :mod:`mlvl_fairseq.modules.towers`."""

    image: Any
    text: Any

    @classmethod
    def of_options(cls, options, vocab_size: Optional[int] = None) -> "TowerConfigs":
        """Args: options: :class:`DualEncoderOptions` and dimensions, or anything with their fields; those that are
        absent count as None. vocab_size: rows of the token embedding; None: of the published tower.

        Raises:
            UserError: there is no such tower, or it has no such dimension.
        """
        return cls(
            side_config("image", IMAGE_TOWERS, options),
            side_config("text", TEXT_TOWERS, options, vocab_size=vocab_size),
        )


def takes_features(options) -> bool:
    """Whether the named image tower takes given features, whose dimension its config does not know."""
    kind = IMAGE_TOWERS.get(str(options.image_tower))
    return kind is not None and "feature_dim" in kind.config.__dataclass_fields__


def side_config(side: str, towers: Dict[str, TowerKind], options, **more: Any) -> Any:
    """The config of the tower that ``<side>_tower`` of some options names, with the dimensions that they say.

    Raises:
        UserError: there is no such tower, or it has no such dimension.
    """
    option = f"{side}_tower"
    name = str(getattr(options, option))
    every = {given for tower in known(towers) for given in dimension_names(side, towers[tower])}
    values = {given: getattr(options, given, None) for given in every}
    if name not in towers:
        tower_config(towers, f"--{side}-tower", name)  # which refuses it
    own = dimension_names(side, towers[name])
    for given in sorted(every - own.keys()):
        if values[given] is not None:
            absent = f"--{side}-tower {name} has no --{given.replace('_', '-')}"
            raise UserError(f"{absent}: leave it out")
    dimensions = {own[given]: _parsed(values[given], towers[name], own[given], given) for given in own}
    return tower_config(towers, f"--{side}-tower", name, **dimensions, **more)


def stage_numbers(numbers: Tuple[int, ...]) -> str:
    """How options say the numbers of stages."""
    return ",".join(map(str, numbers))


def _parsed(value: Any, kind: TowerKind, name: str, option: str) -> Any:
    """The value of an option as a config has it. Raises UserError: no numbers."""
    if value is None or kind.config.__dataclass_fields__[name].type != STAGES:
        return value
    numbers = value.split(",")
    if not all(number.isdecimal() and len(number) < 5 for number in numbers):
        raise UserError(f"--{option.replace('_', '-')} {value}: give a number for each stage, as 2,2,6,2")
    return tuple(map(int, numbers))


@register_network("dual_encoder")
class DualEncoderNetwork(Network):
    """Towers, projections and a temperature; parameters are named as LilT's.

    Attributes:
        visual_encoder: :class:`ImageTower`. text_encoder: :class:`TextTower`.
        vision_proj, text_proj: from their widths to the space of both.
        temp: the temperature, or logit_scale: the logarithm of its inverse.
        frozen_dropout: whether dropout works in frozen parts in training. transform: name of what cuts pictures.
        longest: tokens of a text.
        own_options: dataclasses of what a checkpoint says of it beside its towers' dimensions.
        may_be_missing: submodules that a checkpoint to start from may lack as a whole.
        added: number of parameters that a preset added to the towers.
    """

    frozen_files = {
        "init_from": "of a dual encoder: the checkpoint it started from",
        "image_weights": "of a dual encoder: the file its image tower started from",
        "text_weights": "of a dual encoder: the file its text tower started from",
        "tokenizer_folder": "of a dual encoder: the folder of its tokenizer",
    }
    sides = {"image": "visual_encoder", "text": "text_encoder"}
    heads = r"^(vision|text)_proj\."
    language_architectures = ARCHITECTURES  # with --text-tower clip_text_...
    own_options: ClassVar[Tuple[type, ...]] = (DualEncoderOptions, PeftOptions, LoraOptions)
    may_be_missing: ClassVar[Tuple[str, ...]] = ()
    added = 0

    def __init__(
        self,
        image: ImageTower,
        text: TextTower,
        embed_dim: int,
        log_scale: bool = False,
        frozen_dropout: bool = False,
        transform: str = TRANSFORM,
    ):
        super().__init__()
        self.visual_encoder, self.text_encoder = image, text
        self.vision_proj, self.text_proj = nn.Linear(image.width, embed_dim), nn.Linear(text.width, embed_dim)
        if log_scale:
            self.logit_scale = new_logit_scale()
        else:
            self.temp = nn.Parameter(torch.tensor(INITIAL_TEMPERATURE))
        self.frozen_dropout, self.transform, self.longest = frozen_dropout, transform, text.max_length

    @classmethod
    def of_options(cls, options, configs: TowerConfigs) -> "DualEncoderNetwork":
        """Random weights.

        Args:
            options: :class:`DualEncoderOptions`, :class:`PeftOptions` and :class:`LoraOptions`, or anything with their
                fields. configs: of the towers.
        """
        network = cls(
            configs.image.build(),
            configs.text.build(),
            options.embed_dim,
            str(options.temperature) == "log_scale",
            options.frozen_dropout,
            str(options.transform),
        )
        network.added = add_parts(network, options)
        return network

    @classmethod
    def restore(cls, file: WeightFormat, source: WeightSource, **frozen) -> Restored:
        """See :class:`Network`. Low-rank updates are merged into the weights."""
        from mlvl_fairseq.networks.dual_encoder_files import read_whole

        whole = read_whole(source, cls.family, **frozen)
        network = holding(whole.build, whole.tensors).eval()
        merge_lora(network)
        network.longest = min(network.longest, whole.max_length or network.longest)
        return Restored(network, whole.tokenizer, whole.fingerprint, whole.languages, list(whole.choices))

    @classmethod
    def public_tensors(cls, side: str, path, options, configs: TowerConfigs) -> Tensors:
        """What a public file of a side has for such a network, by the network's names.

        Raises:
            DataError: the file does not fit. UserError: this tower does not start from files.
        """
        return add_prefix(read_tower(getattr(configs, side), path), f"{cls.sides[side]}.")

    @property
    def embed_dim(self) -> int:
        return self.vision_proj.out_features

    @property
    def max_length(self) -> int:
        return self.longest

    @property
    def preprocess(self) -> Optional[ImageTransform]:
        size = self.visual_encoder.image_size
        return None if size is None else ImageTransform(self.transform, size)

    @property
    def feature_dim(self) -> int:
        shape = self.visual_encoder.feature_shape
        return self.embed_dim if shape is None else shape[-1]

    @property
    def grid_shape(self) -> Optional[Tuple[int, int]]:
        shape = self.visual_encoder.feature_shape
        return shape if shape and len(shape) == 2 else None

    @property
    def image_side(self) -> Dict[str, nn.Module]:
        return {"image tower": self.visual_encoder, "projection": self.vision_proj}

    @property
    def temperature(self) -> Tensor:
        """Scalar that divides cosines. While training, the parameter itself, within bounds since `forward`."""
        if hasattr(self, "logit_scale"):
            return temperature(self.logit_scale)
        return self.temp if self.training else self.temp.clamp(*BOUNDS)

    def keep_states(self, wanted: bool = True) -> None:
        """Let both encoders give the states of all patches and tokens, too."""
        for side in self.sides.values():
            self.get_submodule(side).keeps_states = wanted

    def train(self, mode: bool = True) -> "DualEncoderNetwork":
        super().train(mode)
        if mode and not self.frozen_dropout:
            for side in self.sides.values():
                rest_frozen(self.get_submodule(side))
        return self

    def encode_text(
        self, tokens: Tensor, eos_positions: Tensor, lang: Optional[str] = None, lengths: Lengths = None, states=None
    ) -> Encoded:
        """See :class:`Network`; no language matters. `states`: [B, width], the vectors of a frozen text tower, which
        then does not run."""
        if states is not None:
            return Encoded(self.text_proj(states.to(self.text_proj.weight.dtype)))
        return self._encoded(self.text_encoder, self.text_proj, tokens, eos_positions, lengths)

    def encode_image(self, images: Tensor) -> Encoded:
        """Pictures, or given features [B, ...] where the tower takes such. Where it takes pictures, [B, width] are the
        vectors of a frozen image tower, which then does not run."""
        if images.dim() == 2 and self.visual_encoder.feature_shape is None:
            return Encoded(self.vision_proj(images.to(self.vision_proj.weight.dtype)))
        return self._encoded(self.visual_encoder, self.vision_proj, images)

    def frozen_tower(self, side: str) -> Optional[FrozenTower]:
        """See :class:`Network`."""
        tower = self.get_submodule(self.sides[side])
        if not is_frozen(tower):
            return None
        if self.frozen_dropout and draws(tower):
            raise UserError(f"dropout works in the frozen {side} tower (--frozen-dropout)")
        return FrozenTower(side, tower)

    def encode_features(self, features: Tensor) -> Encoded:
        """Given image features: those that the image tower takes, or with a tower for pictures those of the space."""
        return Encoded(features) if self.visual_encoder.feature_shape is None else self.encode_image(features)

    def _encoded(self, tower: nn.Module, projection: nn.Linear, *inputs: PerRow) -> Encoded:
        output: TowerOutput = tower(*inputs)  # a frozen one builds no graph: none of its tensors needs a gradient
        return Encoded(projection(output.vector), output.states, output.mask)

    def forward(self, *args, **kwargs) -> Dict[str, Tensor]:
        """See :class:`Network`. In training a clamped temperature is put back within its bounds first."""
        self.clamp_temperature()
        return super().forward(*args, **kwargs)

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """In training, put a clamped temperature back within its bounds."""
        if self.training and not hasattr(self, "logit_scale"):
            self.temp.clamp_(*BOUNDS)


def rest_frozen(module: nn.Module) -> None:
    """Put the parts of a module of which no parameter trains into evaluation mode: their dropout is off."""
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def describe(configs: TowerConfigs) -> str:
    """Dimensions as text, those among them that no tensor shows (heads, pooling). What a config does not show in its
    ``repr`` makes no difference to vectors."""
    parts = (("image", configs.image), ("text", configs.text))
    return "; ".join(f"{side} {type(config).__name__} {sorted(_shown(config).items())}" for side, config in parts)


def _shown(config: Any) -> Dict[str, Any]:
    return {one.name: getattr(config, one.name) for one in fields(config) if one.repr}
