"""What adapters and prompts of the text tower share: one part a language, drawn when the language begins, then kept."""

import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Type

import torch
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.block_adapter import BlockAdapter
from mlvl_fairseq.options import Part

if TYPE_CHECKING:  # towers have layerwise adapters
    from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TowerShape:
    """Dimensions of the text tower that an adapter is for."""

    width: int
    layers: int
    embed_dim: int

    @classmethod
    def of(cls, tower: "CLIPTextTower") -> "TowerShape":
        width, embed_dim = tower.text_projection.shape
        return cls(width, len(tower.transformer.resblocks), embed_dim)


class Adapted(NamedTuple):
    """What a tower with an adapter gives.

    Attributes:
        features: [B, embed_dim], not normalised.
        auxiliary_loss: scalar, weighted; None: the adapter needs no loss of its own.
    """

    features: Tensor
    auxiliary_loss: Optional[Tensor] = None


class TextAdapter(nn.Module):
    """Parameters that a sequence of languages adds to a text tower.

    ``parts[i]`` belongs to language i of the sequence. Only the current (last) language's part trains; earlier ones
    stay as they are. The tower is not touched: :meth:`forward` takes it along.

    A kind says what a part is (:meth:`new_part`, :meth:`draw`) and what it does (:meth:`forward`).

    Attributes:
        needs_language: texts go through the part of their language, which has to be said.

    Args:
        options: the kind's dataclass of options.
        shape: dimensions of the tower.
        languages: the languages learned so far, the current one last.
        seed: of the current language's part; the same seed gives the same numbers on any device.
    """

    name: str
    options_type: type
    needs_language = False

    def __init__(self, options: Any, shape: TowerShape, languages: Sequence[str], seed: int = 0):
        super().__init__()
        self.options, self.shape, self.languages, self.seed = options, shape, list(languages), seed
        self.position = len(self.languages) - 1
        self.parts = nn.ModuleList(self.new_part(i == self.position) for i in range(self.number_of_parts()))
        generator = self.generator()
        for i, part in enumerate(self.parts):
            part.requires_grad_(self.trains(i))
            for parameter in part.parameters():
                nn.init.zeros_(parameter)  # earlier languages' are in the checkpoint to come
            if i >= self.position:
                self.draw(part, generator, [])

    # What a kind says.
    def number_of_parts(self) -> int:
        return len(self.languages)

    def trains(self, position: int) -> bool:
        """Does the part of the language at this position train?"""
        return position == self.position

    def new_part(self, is_current: bool) -> nn.Module:
        """One language's parameters, not yet drawn; `is_current`: those of the language that is learned now."""
        raise NotImplementedError

    def draw(self, part: nn.Module, generator: torch.Generator, earlier: List[Dict[str, Tensor]]) -> None:
        """Fill a new part, in place. `earlier`: the tensors of the parts of the languages before, in order."""
        raise NotImplementedError

    def retire(self, tensors: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """What is kept of a part's tensors once its language is learned."""
        return tensors

    def forward(
        self, tower: Callable[..., Tensor], tokens: Tensor, eos_positions: Tensor, lang: Optional[str] = None
    ) -> Adapted:
        """Encode captions of one language.

        Args:
            tower: a :class:`CLIPTextTower`, as it is called.
            tokens: int64 [B, T]. eos_positions: int64 [B].
            lang: the captions' language; None: unknown.
        """
        raise NotImplementedError

    def weights_of(self, lang: Optional[str]) -> Dict[str, Tensor]:
        """What captions of one language go through; by default they may go through any part."""
        return self.state_dict()

    # From language to language.
    def generator(self, stream: int = 0) -> torch.Generator:
        """Random numbers of the current language's part (stream 0), or others."""
        return torch.Generator().manual_seed(self.seed + stream)

    def hand_over(self, state: Dict[str, Tensor], prefix: str) -> None:
        """Complete the state that ended the language before with the current language's fresh part, in place.

        Args:
            state: names start with `prefix`, e.g. ``adapter.``.

        Raises:
            UserError: the checkpoint has no adapter, or another one.
        """
        earlier = [_take(state, f"{prefix}parts.{i}.") for i in range(self.position)]
        self._require(all(earlier), "has none for the languages it has learned")
        for tensors, part in zip(earlier, [*self.parts[: self.position - 1], self.parts[self.position]]):
            self._compare(tensors, part.state_dict())
        current = f"{prefix}parts.{self.position}."
        if not _take(state, current):  # some kinds draw parts ahead
            part = self.parts[self.position]
            self.draw(part, self.generator(), earlier)
            state.update({current + name: tensor.clone() for name, tensor in part.state_dict().items()})
        previous = f"{prefix}parts.{self.position - 1}."
        for name in earlier[-1]:
            del state[previous + name]
        state.update({previous + name: tensor for name, tensor in self.retire(earlier[-1]).items()})

    def check(self, state: Dict[str, Tensor], prefix: str) -> None:
        """Raises UserError: the tensors of a state are not those of this adapter."""
        self._compare(_take(state, prefix), self.state_dict())

    def _compare(self, given: Dict[str, Tensor], own: Dict[str, Tensor]) -> None:
        differ = sorted(own.keys() ^ given.keys()) or [name for name in own if own[name].shape != given[name].shape]
        self._require(not differ, f"differs in {', '.join(differ[:1])}")

    def _require(self, fits: bool, problem: str) -> None:
        if not fits:
            raise UserError(
                f"the checkpoint does not fit --adapter {self.name} with these options: it {problem}; train the whole "
                "sequence with the same ones"
            )


class LanguageAdapter(TextAdapter):
    """A kind that has to be told the language: the language's part is at work, no other."""

    needs_language = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._unknown = set()

    def blocks(self, part: nn.Module) -> List[BlockAdapter]:
        """What a language's part adds to each block."""
        raise NotImplementedError

    def weights_of(self, lang: Optional[str]) -> Dict[str, Tensor]:
        return self.parts[self.languages.index(lang)].state_dict() if lang in self.languages else {}

    def forward(self, tower, tokens, eos_positions, lang=None) -> Adapted:
        """See :class:`TextAdapter`. A language that was never learned goes through the bare tower."""
        if lang in self.languages:
            return Adapted(tower(tokens, eos_positions, self.blocks(self.parts[self.languages.index(lang)])))
        if lang not in self._unknown:
            self._unknown.add(lang)
            logger.warning(
                "%s: captions are encoded without adapter; there are adapters for %s",
                f"language '{lang}' was not learned" if lang else "no language is given",
                ", ".join(self.languages),
            )
        return Adapted(tower(tokens, eos_positions))


ADAPTERS: Dict[str, Type[TextAdapter]] = {}


def register_adapter(name: str, options: type):
    """Register a :class:`TextAdapter` as ``--adapter name``; the fields of the dataclass `options` become options."""

    def decorate(adapter: Type[TextAdapter]) -> Type[TextAdapter]:
        adapter.name, adapter.options_type = name, options
        ADAPTERS[name] = adapter
        return adapter

    return decorate


def adapter_options() -> type:
    """A dataclass with the options of all kinds."""
    return dataclass(type("AdapterOptions", tuple(kind.options_type for kind in ADAPTERS.values()), {}))


def adapter_parts() -> List[Part]:
    """All kinds, as parts of a run."""

    def chosen(name: str) -> Callable[[Any], bool]:
        return lambda cfg: str(getattr(cfg, "adapter", "none")) == name  # absent from a line where it is not typed

    return [Part(kind.options_type, chosen(name), f"--adapter {name}") for name, kind in ADAPTERS.items()]


def build_adapter(name: str, given: Any, shape: TowerShape, languages: Sequence[str], seed: int = 0) -> TextAdapter:
    """An adapter of a kind.

    Args:
        name: registered kind.
        given: an object whose attributes are options; what it lacks has its default.
        shape, languages, seed: see :class:`TextAdapter`.

    Raises:
        UserError: no such kind, or options that do not fit the tower.
    """
    if name not in ADAPTERS:
        raise UserError(f"no adapter '{name}'; there are: {', '.join(ADAPTERS)}")
    kind = ADAPTERS[name]
    names = [option.name for option in fields(kind.options_type) if hasattr(given, option.name)]
    return kind(kind.options_type(**{name: getattr(given, name) for name in names}), shape, languages, seed)


class UndrawnLinear(nn.Linear):
    """One that draws no numbers: they are to be filled in. (torch's ``skip_init`` imports SymPy for that.)"""

    def reset_parameters(self) -> None:
        pass


@torch.no_grad()
def draw_normal(tensor: Tensor, std: float, generator: torch.Generator) -> None:
    """Fill with N(0, std^2), the same numbers on any device."""
    tensor.copy_(torch.randn(tensor.shape, generator=generator) * std)


@torch.no_grad()
def draw_uniform(tensor: Tensor, bound: float, generator: torch.Generator) -> None:
    """Fill with U(-bound, bound), the same numbers on any device."""
    tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * bound)


def _take(state: Dict[str, Tensor], prefix: str) -> Dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
