"""A model of a few numbers and a task that shows it batches: all that a plugin of continual learning needs."""

from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import nn

from mlvl_fairseq.continual.learner import LanguageLearner
from mlvl_fairseq.continual.plugin import hand_over_plugins

TEXTS = torch.tensor([[0, 1], [1, 2], [3, 0], [2, 2], [1, 3], [0, 0]])


class ToyModel(nn.Module):
    """A caption's feature is ``head @ mean of its words' embeddings``; an adapter would be one language's own."""

    language_modules = ("adapter",)
    shared_parameters = LanguageLearner.shared_parameters

    def __init__(self, embedding, head):
        super().__init__()
        self.head, self.embedding = nn.Parameter(head.clone()), nn.Parameter(embedding.clone())

    def forward(self, tokens):
        return {"text": self.embedding[tokens].mean(dim=1) @ self.head.T}


class ToyTask:
    """Its languages are lists of batches; a plugin that looks back sees those of the language before, in order.

    Attributes:
        asked: batch size and rows of each look back.
    """

    embed_dim, rank, ranks, is_first_epoch = 2, 0, 1, True

    def __init__(self, position=0, previous=()):
        self.position, self.learned, self.previous, self.asked = position, ["en", "de"][:position], previous, []
        self.plugins, self.criterion, self.model = {}, FeaturesOnly(), None

    def caption_count(self, lang):
        return sum(len(sample["net_input"]["tokens"]) for sample in self.previous)

    def previous_batches(self, model, batch_size, title, rows=None, shared=True):
        self.asked.append((batch_size, rows))
        return iter(self.previous)

    def seed_for(self, purpose):
        return purpose


class FeaturesOnly:
    @staticmethod
    def features(model, sample):
        return model(**sample["net_input"])

    @contextmanager
    def at_previous_temperature(self):
        yield


def toy_batch(tokens=TEXTS, **more):
    return {"net_input": {"tokens": tokens}, "nsentences": len(tokens), "ntokens": tokens.numel(), **more}


def through_a_checkpoint(plugin, following, task, model):
    """`following`, a new plugin, takes over what `plugin` left in a checkpoint, as the model's loading has it."""
    state = {f"continual.x.{name}": tensor.clone() for name, tensor in plugin.state_dict().items()}
    hand_over_plugins(nn.ModuleDict({"x": following}), state, "continual.", model)
    following.load_state_dict({name.removeprefix("continual.x."): tensor for name, tensor in state.items()})
    following.begin_language(task, model)
    following.begin_run(task, model)
    return following


def restarted(plugin, new, task, model):
    """`new`, a new plugin, in the place of `plugin` after a restart within a language."""
    new.load_state_dict({name: tensor.clone() for name, tensor in plugin.state_dict().items()})
    new.begin_run(task, model)
    return new


def options(*kinds, **values):
    """The fields of option classes with their defaults, but for `values`."""
    return SimpleNamespace(**{k: v for kind in kinds for k, v in vars(kind()).items()} | values)
