"""What makes a network learn one language after another: it grows, hands over, and remembers."""

from typing import Dict, Iterator, Optional, Tuple

from torch import Tensor, nn

from mlvl_fairseq.continual.language_state import LanguageState
from mlvl_fairseq.continual.plugin import hand_over_plugins
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters import TextAdapter, TowerShape, build_adapter
from mlvl_fairseq.modules.expandable_embedding import ExpandableEmbedding, apply_idle_decay
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower

ADAPTER_SEEDS = 30_000  # the first number of those that ask for the seeds of adapters


class LanguageLearner:
    """Mixin in front of a network that offers a growing token embedding. Its checkpoints carry the sequence: position,
    token use and what methods remember are buffers of the model.

    Attributes:
        token_embedding_name: of the embedding that grows, within the network.
        language_state: :class:`LanguageState`; None: the model learns no sequence.
        continual: plugins of continual learning by name, only in a sequence.
        has_learned: a checkpoint of the sequence was loaded. is_fresh: it ends the language before this one.
    """

    token_embedding_name = "text.token_embedding"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.language_state: Optional[LanguageState] = None
        self.has_learned, self.is_fresh = False, False

    @property
    def token_embedding(self) -> ExpandableEmbedding:
        return self.get_submodule(self.token_embedding_name)

    def begin_language(self, state: LanguageState, growth, plugins: nn.ModuleDict) -> None:
        """Make this the model of one language of a sequence; called before a checkpoint is loaded.

        Args:
            growth: draws the rows of new tokens, see :class:`GrowthOptions`.
        """
        self.language_state, self.growth, self.continual = state, growth, plugins

    def shared_parameters(self) -> Iterator[Tuple[str, nn.Parameter]]:
        """Trained parameters that languages share: all but those in the network's ``language_modules``."""
        own = tuple(f"{name}." for name in self.language_modules)
        for name, parameter in self.named_parameters():
            if parameter.requires_grad and not name.startswith(own):
                yield name, parameter

    def upgrade_state_dict_named(self, state: Dict[str, Tensor], name: str) -> None:
        """Hand the language before over to this one: grow embedding and token counts.

        Raises:
            UserError: the checkpoint does not fit this place of the sequence.
        """
        if self.language_state is not None:
            self._hand_over(state, f"{name}." if name else "")
        super().upgrade_state_dict_named(state, name)

    def _hand_over(self, state: Dict[str, Tensor], prefix: str) -> None:
        inner = prefix + "language_state."
        if inner + "position" not in state:
            raise UserError("the checkpoint has not learned any language; start from it with --init-from")
        self.has_learned, self.is_fresh = True, self.language_state.is_handover(state, inner)
        if self.is_fresh:
            embedding = f"{prefix}{self.token_embedding_name}."
            apply_idle_decay(state, embedding)
            rows = self.token_embedding.num_embeddings
            state[embedding + "weight"] = self.growth.grow(state[embedding + "weight"], rows)
            self.language_state.hand_over(state, inner)
            hand_over_plugins(self.continual, state, prefix + "continual.", self)
        for name in self.language_modules:
            self._hand_over_module(state, name, f"{prefix}{name}.")

    def _hand_over_module(self, state: Dict[str, Tensor], name: str, prefix: str) -> None:
        module = getattr(self, name)
        if module is not None:
            if self.is_fresh:
                module.hand_over(state, prefix)
            module.check(state, prefix)
        elif any(key.startswith(prefix) for key in state):
            raise UserError(f"the checkpoint was trained with an {name}: give the same --{name} and its options")


def build_language_adapter(options, tower: CLIPTextTower, task) -> Optional[TextAdapter]:
    """What ``--adapter`` adds to a text tower for the languages of a task; None: nothing.

    Raises:
        UserError: the task does not learn languages one after another.
    """
    if str(options.adapter) == "none":
        return None
    if len(getattr(task, "current", ())) != 1:
        raise UserError(
            f"--adapter {options.adapter} is for languages that are learned one after another (cll_retrieval)"
        )
    seed = task.seed_for(ADAPTER_SEEDS + task.position)
    return build_adapter(str(options.adapter), options, TowerShape.of(tower), task.languages, seed)
