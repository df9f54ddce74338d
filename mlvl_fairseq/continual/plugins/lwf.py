"""Learning without forgetting (Li and Hoiem 2016), on features: the previous model teaches beside the teacher."""

from dataclasses import dataclass, field

import torch
from torch.func import functional_call

from mlvl_fairseq.continual.plugin import ContinualPlugin, register_plugin
from mlvl_fairseq.losses import feature_mse


@dataclass
class LwfOptions:
    lwf_scale: float = field(
        default=0.0,
        metadata={"help": "weight of the MSE between the features of this and of the previous model; 0: off"},
    )


@register_plugin("lwf", LwfOptions)
class Lwf(ContinualPlugin):
    """``scale * MSE(h, h_previous)`` on the current language's captions; no caption of earlier languages is needed.

    The previous model is this one with the trained parameters as they were handed over, which the buffers keep.
    """

    switches = {"lwf_scale": 0}

    def hand_over(self, state, prefix, model) -> None:
        for key in [key for key in state if key.startswith(prefix)]:
            del state[key]  # the model before the previous one has had its say

    def begin_language(self, task, model) -> None:
        for name, parameter in model.shared_parameters():  # the previous model had none of this language's own
            self.register_buffer(name.replace(".", "/"), parameter.detach().clone())

    def losses(self, model, features, sample):
        if not self._buffers:
            return {}
        previous = {name.replace("/", "."): value for name, value in self._buffers.items()}
        rows = sample["nsentences"]
        with torch.no_grad():
            target = functional_call(model, previous, kwargs=sample["net_input"])["text"]
        return {"lwf": (self.cfg.lwf_scale, feature_mse(features["text"], target) / rows)}
