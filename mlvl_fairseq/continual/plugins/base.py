"""What a continual-learning method can do besides its options: add rows to a batch, terms to the loss, and remember.

A plugin is a module whose buffers are all it remembers. They are part of the model's state, so that one file, written
at once, holds weights and memory of the same moment; a restart finds both.
"""

from typing import Dict, List, Tuple, Type

import torch
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError


class ContinualPlugin(nn.Module):
    """One method at work in one language. Every hook does nothing unless a method needs it.

    In the order of calls: :meth:`hand_over` on the previous language's checkpoint; :meth:`begin_language` once;
    :meth:`begin_run` at every start, restarts included; then for every batch :meth:`extend_batch`, :meth:`losses`,
    :meth:`after_backward`; for every update :meth:`before_step` and :meth:`after_step`.

    Attributes:
        needs_all_rows: the method moves embedding rows that the current language does not use.
    """

    needs_all_rows = False

    def __init__(self, cfg, task):
        super().__init__()
        self.cfg = cfg

    @classmethod
    def is_active(cls, cfg) -> bool:
        """Do these options ask for the method?"""
        raise NotImplementedError

    def hand_over(self, state: Dict[str, Tensor], prefix: str, model) -> None:
        """Turn the previous language's buffers (``prefix + name`` in `state`) into this one's, in place."""

    def begin_language(self, task, model) -> None:
        """The previous language's weights are loaded, nothing is trained yet. Not called for the first language."""

    def begin_run(self, task, model) -> None:
        """Weights and buffers are loaded; make what is derived from them."""

    def current_tokens(self) -> Tensor:
        """int [V] or a scalar 0: in how many further languages this method shows each token during this language."""
        return torch.tensor(0)

    def extend_batch(self, sample: dict) -> dict:
        """Add rows to a training batch."""
        return sample

    def losses(self, model, features: Dict[str, Tensor], sample: dict) -> Dict[str, Tuple[float, Tensor]]:
        """Terms of the training loss by the name they are logged under: weight and scalar (a mean over rows)."""
        return {}

    def after_backward(self, sample: dict) -> None:
        """The batch's gradients are there; ``sample["text_output"]`` holds the student's features."""

    def before_step(self, model) -> None:
        """The gradients are reduced, averaged and clipped."""

    def after_step(self, model) -> None:
        """The parameters have moved."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """Which buffers there are, and their sizes, is the checkpoint's to say."""
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name = key[len(prefix) :]
            device = self._buffers[name].device if name in self._buffers else state_dict[key].device
            self.register_buffer(name, state_dict[key].to(device, copy=True))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


PLUGINS: Dict[str, Type[ContinualPlugin]] = {}


def register_plugin(name: str, options: type):
    """Register a :class:`ContinualPlugin` under a name; `options` is a dataclass whose fields become the task's."""

    def decorate(plugin: Type[ContinualPlugin]):
        plugin.options = options
        PLUGINS[name] = plugin
        return plugin

    return decorate


def active_plugins(cfg, task) -> nn.ModuleDict:
    """The plugins that a task's options ask for, by name."""
    return nn.ModuleDict({name: plugin(cfg, task) for name, plugin in PLUGINS.items() if plugin.is_active(cfg)})


def hand_over_plugins(plugins: nn.ModuleDict, state: Dict[str, Tensor], prefix: str, model) -> None:
    """Let every plugin take over its part of the previous language's state (``prefix + plugin + name``), in place.

    A plugin that the previous language did not have starts empty.

    Raises:
        UserError: the checkpoint remembers something for a method that is not in use now.
    """
    known = tuple(f"{prefix}{name}." for name in plugins)
    strange: List[str] = [key for key in state if key.startswith(prefix) and not key.startswith(known)]
    if strange:
        name = strange[0][len(prefix) :].split(".")[0]
        raise UserError(f"the checkpoint was trained with the method '{name}': train with it again, or start anew")
    for name, plugin in plugins.items():
        inner = f"{prefix}{name}."
        for key, value in plugin.state_dict().items():
            state.setdefault(inner + key, value)
        plugin.hand_over(state, inner, model)
