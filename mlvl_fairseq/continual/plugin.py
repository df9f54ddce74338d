"""What a continual-learning method can do besides its options: show more captions, add to the loss, and remember.

A plugin is a module whose buffers are all it remembers. They are part of the model's state, so that one file, written
at once, holds weights and memory of the same moment; a restart finds both.
"""

from dataclasses import dataclass, fields
from typing import Callable, Dict, List, Optional, Tuple, Type

import torch
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.options import Part, check_number


class ContinualPlugin(nn.Module):
    """One method at work in one language. Every hook does nothing unless a method needs it.

    In the order of calls: :meth:`hand_over` on the previous language's checkpoint; :meth:`begin_language` once;
    :meth:`begin_run` at every start, restarts included; then for every batch :meth:`extend_batch`,
    :meth:`cross_modal`, :meth:`losses`, :meth:`after_backward`; for every update :meth:`before_step` and
    :meth:`after_step`. The `model` of every hook is the network itself, never what data-parallel training wraps around
    it: the names of its parameters are the same on one rank and on several.

    Attributes:
        name: that it is registered under. family: of plugins that belong together; default: its name. Terms are added
            to the loss in the order of families, then names.
        switches: options that ask for the method -> their values that do not.
        needs_all_rows: the method moves embedding rows that the current language does not use.
    """

    name = ""
    family = ""
    switches: Dict[str, object] = {}
    needs_all_rows = False

    def __init__(self, cfg, task):
        super().__init__()
        self.cfg = cfg

    @classmethod
    def is_asked_for(cls, cfg) -> bool:
        """Is one of the :attr:`switches` on, and does the method say so, too?"""
        return any(getattr(cfg, name) != off for name, off in cls.switches.items()) and cls.is_active(cfg)

    @classmethod
    def is_active(cls, cfg) -> bool:
        """With a switch on, is this method meant? One of several that share a switch says so here."""
        return True

    @classmethod
    def asked_for_by(cls) -> str:
        """The options that ask for the method, for messages."""
        return " or ".join(f"--{name.replace('_', '-')}" for name in cls.switches)

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
        """Put further batches beside a training batch: ``sample["memory"]`` holds them by name, each with its own
        ``net_input``, ``image_ids``, ``image_features``, ``nsentences`` and ``ntokens``. They are encoded in one pass
        with the batch; their features are ``features["memory"][name]`` [rows, D]."""
        return sample

    def cross_modal(self, contrast: Callable, features: Dict, sample: dict) -> Optional[Tensor]:
        """The contrastive term, a mean over rows, in place of the criterion's; None: leave it to the criterion.

        Args:
            contrast: ``contrast(text, image, ids, queries=None)``, the criterion's loss at its temperature, summed over
                the queries: see :func:`mlvl_fairseq.losses.contrastive_loss`.
            features: ``text`` and ``image`` [B, D] of the batch; ``memory``: text features of the batches beside it.
            sample: the batch.
        """
        return None

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


@dataclass
class NoOptions:
    """Of a plugin that has no options of its own."""


def register_plugin(name: str, options: type = NoOptions):
    """Register a :class:`ContinualPlugin` under a name; `options` is a dataclass whose fields become the task's."""

    def decorate(plugin: Type[ContinualPlugin]):
        plugin.name, plugin.options = name, options
        plugin.family = plugin.family or name
        PLUGINS[name] = plugin
        return plugin

    return decorate


def plugin_options() -> List[type]:
    """The dataclasses of options of all plugins, each once."""
    return list(dict.fromkeys(plugin.options for plugin in PLUGINS.values()))


def plugin_parts() -> List[Part]:
    """All plugins, as parts of a run."""
    return [Part(plugin.options, plugin.is_asked_for, plugin.asked_for_by()) for plugin in PLUGINS.values()]


def active_plugins(cfg, task) -> nn.ModuleDict:
    """The plugins that a task's options ask for, by name.

    Raises:
        UserError: two of them define the contrastive term, or a number is negative or not finite.
    """
    for option in (option for options in plugin_options() for option in fields(options)):
        if option.type in (int, float):
            check_number(cfg, option.name)
    active = [plugin for plugin in PLUGINS.values() if plugin.is_asked_for(cfg)]
    active.sort(key=lambda plugin: (plugin.family, plugin.name))
    contrasting = [plugin.name for plugin in active if plugin.cross_modal is not ContinualPlugin.cross_modal]
    if len(contrasting) > 1:
        raise UserError(f"{' and '.join(contrasting)} each have a contrastive loss of their own: choose one of them")
    return nn.ModuleDict({plugin.name: plugin(cfg, task) for plugin in active})


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
