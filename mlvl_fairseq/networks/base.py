"""What every network offers, so that tasks, losses and commands need not know which one it is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Callable, ClassVar, Collection, Dict, List, NamedTuple, Optional, Protocol, Sequence, Tuple, Type

from torch import Tensor, nn

from mlvl_fairseq.checkpoints.source import Tensors, WeightFormat, WeightSource
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.data.text.base import Tokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.chunking import PerRow, in_chunks
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.networks.frozen_tower import FrozenTower
from mlvl_fairseq.registry import registering


class Encoded(NamedTuple):
    """A batch of texts or images in the network's space.

    Attributes:
        vector: [B, embed_dim], not normalised.
        states: [B, T, width], one for each token or patch; None: the network keeps none.
        mask: bool [B, T], True where `states` have a meaning.
        auxiliary_loss: scalar, weighted, that training adds; None: nothing.
    """

    vector: Tensor
    states: Optional[Tensor] = None
    mask: Optional[Tensor] = None
    auxiliary_loss: Optional[Tensor] = None


class Views(Protocol):
    """Images as texts are matched with them: what depends on an image alone, computed once for however many texts.

    Attributes:
        nbytes: memory of all of them.
    """

    @property
    def nbytes(self) -> int: ...

    def __getitem__(self, rows: Tensor) -> "Views":
        """Those of some rows, int64 [R]: a row may be taken several times."""


@dataclass(frozen=True)
class Restored:
    """A network read from a file, in evaluation mode, and what belongs to it.

    Attributes:
        network: with all its weights.
        tokenizer: that cut the captions it was trained on.
        fingerprint: sha256 (hex) of the weights; two networks with the same one give the same features.
        languages: the languages learned in sequence; empty for a model that was not trained so.
        choices: labels or answers that a head chooses from, in the order of its rows; none: the file names none.
        architecture: the ``--arch`` of mlvl-cll that can start from it; None: there is no such, or it is not known.
    """

    network: "Network"
    tokenizer: Tokenizer
    fingerprint: str
    languages: List[str] = field(default_factory=list)
    choices: List[str] = field(default_factory=list)
    architecture: Optional[str] = None


class Network(nn.Module, ABC):
    """Base of all networks.

    A subclass wires modules (``__init__``), says how texts and images go through them, and how it is read from a file
    (:meth:`restore`). What else it offers has a default here.

    Attributes:
        family: its name in :data:`NETWORKS`.
        frozen_files: options that say where files are now that training kept frozen: name -> help.
        freezing_presets: names for ``--trainable`` -> rules, see :mod:`mlvl_fairseq.networks.freezing`.
        language_modules: names of submodules (each may be None) whose parameters belong to single languages.
        match: where a network can, ``match(image: Encoded, text: Encoded) -> [B]`` scores pairs: higher is better,
            and only scores of one network compare. It does so in two steps, of which the first is done once an image:
        image_keys_values: ``image_keys_values(image: Encoded) -> Views`` of B images, by their `states`;
        match_views: ``match_views(text: Encoded, views: Views) -> [R]`` of R texts, by their `states`, with R views.
        locate: where a network can, ``locate(text: Encoded, views: Views) -> [R, 4]``: where in each of R images what a
            text says is, as centre, width and height of a box, in shares of the image.
        encode_chunk: rows encoded at a time; 0: all.
        sides: ``image`` and ``text`` -> name of the submodule that is its tower, for the presets of what trains.
        language_architectures: names for ``--arch`` of a network that can learn one language after another.
        heads: regular expression of the parameters behind the towers that take both into one space.
        temperature: scalar that divides cosines; None: the network has none.
    """

    family: ClassVar[str]
    frozen_files: ClassVar[Dict[str, str]] = {}
    freezing_presets: ClassVar[Dict[str, Sequence[str]]] = {}
    language_modules: ClassVar[Sequence[str]] = ()
    match: Optional[Callable[[Encoded, Encoded], Tensor]] = None
    image_keys_values: Optional[Callable[[Encoded], Views]] = None
    match_views: Optional[Callable[[Encoded, Views], Tensor]] = None
    locate: Optional[Callable[[Encoded, Views], Tensor]] = None
    encode_chunk: int = 0
    sides: ClassVar[Dict[str, str]] = {}
    heads: ClassVar[str] = ""
    language_architectures: ClassVar[Collection[str]] = ()
    temperature: Optional[Tensor] = None

    @classmethod
    @abstractmethod
    def restore(cls, file: WeightFormat, source: WeightSource, **frozen) -> Restored:
        """A network with the weights of a file.

        Args:
            file: the format of `source`, one of this family.
            frozen: values of :attr:`frozen_files`.

        Raises:
            DataError: the file does not hold what it should. UserError: a frozen file is not there or another one.
        """

    @property
    @abstractmethod
    def embed_dim(self) -> int:
        """Dimension of the space of texts and images."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Longest text in tokens, BOS and EOS included; longer ones are cut."""

    @property
    def preprocess(self) -> Optional[ImageTransform]:
        """What makes pictures to :meth:`encode_image`'s input; None: the network takes no pictures."""
        return None

    @property
    def feature_dim(self) -> int:
        """Dimension of the given image features that :meth:`encode_features` takes."""
        return self.embed_dim

    @property
    def grid_shape(self) -> Optional[Tuple[int, int]]:
        """``(positions, dimensions)`` of the given states of an image that :meth:`encode_image` takes; None: others."""
        return None

    @property
    def current_language(self) -> Optional[str]:
        """The language that is learned now, where a network has parameters of single languages."""
        return None

    @property
    def text_languages(self) -> Sequence[str]:
        """The languages whose texts go through parameters of their own; empty: it does not matter."""
        return ()

    @property
    def image_side(self) -> Dict[str, nn.Module]:
        """The modules that images go through, by name: equal ones give equal spaces."""
        return {}

    @abstractmethod
    def encode_text(
        self, tokens: Tensor, eos_positions: Tensor, lang: Optional[str] = None, lengths: Lengths = None
    ) -> Encoded:
        """Encode texts.

        Args:
            tokens: int64 [B, T] ids with BOS and EOS, padded on the right.
            eos_positions: int64 [B], where each text ends.
            lang: language of the texts, where a network has parameters of single languages.
            lengths: int64 [B], tokens of each text, where Python reads them; None: on a GPU it waits to count them.
        """

    def text_weights(self, tokens: Tensor, lang: Optional[str] = None) -> Tensors:
        """What :meth:`encode_text` computes with, by name; what only other texts go through need not be in it.

        Args:
            tokens: int64 [T], ids that occur in the texts, padding included. lang: language of the texts.
        """
        return dict(self.state_dict())

    def encode_image(self, images: Tensor) -> Encoded:
        """Encode what the network is trained on: pictures [B, 3, H, W] after :attr:`preprocess`, or features [B, D].

        Raises:
            UserError: it has no image side.
        """
        raise UserError("this network has no image side")

    def encode_features(self, features: Tensor) -> Encoded:
        """Given image features [B, feature_dim]. A network without a head of its own takes those of its space."""
        return Encoded(features)

    def started(self, tensors: Tensors, options=None) -> Tensors:
        """What parts begin as that a file does not have, made of what it has.

        Args:
            tensors: of the file, by the network's names. options: what a checkpoint says of its model; None: the file
                is a public one.

        Raises:
            UserError: they do not go together.
        """
        return {}

    def frozen_tower(self, side: str) -> Optional[FrozenTower]:
        """A tower in which nothing trains, and whose vectors :meth:`forward` takes instead of what the tower takes: [B,
        width] as `images`, or as `states`. None: there is no such.

        Args:
            side: a key of :attr:`sides`.

        Raises:
            UserError: nothing trains in it, and yet it gives other vectors each time.
        """
        return None

    def forward(
        self,
        tokens: Tensor,
        eos_positions: Tensor,
        images: Optional[Tensor] = None,
        lang: Optional[str] = None,
        **text_options: PerRow,
    ) -> Dict[str, Tensor]:
        """Both sides at once, for training; rows go through in chunks where ``encode_chunk`` says so.

        Args:
            tokens, eos_positions: see :meth:`encode_text`. images: see :meth:`encode_image`.
            lang: language of the texts; None: the one that is learned now.
            text_options: what else :meth:`encode_text` takes, [B, ...].

        Returns:
            ``text`` [B, embed_dim], not normalised; with images also ``image`` [B, embed_dim]; ``auxiliary_loss``
            where there is one.
        """
        names, lang = list(text_options), lang or self.current_language

        def text(tokens: Tensor, eos_positions: Tensor, *options: PerRow) -> Dict[str, Tensor]:
            encoded = self.encode_text(tokens, eos_positions, lang, **dict(zip(names, options)))
            found = {"text": encoded.vector, "auxiliary_loss": encoded.auxiliary_loss}
            return {name: value for name, value in found.items() if value is not None}

        features = in_chunks(text, (tokens, eos_positions, *text_options.values()), self.encode_chunk)
        if images is not None:
            features["image"] = in_chunks(lambda rows: self.encode_image(rows).vector, (images,), self.encode_chunk)
        return features


NETWORKS: Dict[str, Type[Network]] = {}


def register_network(family: str) -> Callable[[Type[Network]], Type[Network]]:
    """Class decorator: the network of a family, see :attr:`WeightFormat.family`."""
    return registering(NETWORKS, "a network", family, family=family)
