"""DER++: dark experience replay and labels (Buzzega et al. 2020, "Dark Experience for General Continual Learning")."""

from dataclasses import dataclass, field

from mlvl_fairseq.continual.plugin import register_plugin
from mlvl_fairseq.continual.plugins.er import ExperienceReplay
from mlvl_fairseq.continual.plugins.replay import mean_distance


@dataclass
class DerppOptions:
    derpp_alpha: float = field(
        default=0.5, metadata={"help": "DER++: weight of the MSE to the student's features of then, on one draw"}
    )
    derpp_beta: float = field(
        default=0.5, metadata={"help": "DER++: weight of ER's loss, towards the teacher's features, on another draw"}
    )


@register_plugin("derpp", DerppOptions)
class Derpp(ExperienceReplay):
    """``alpha * MSE(h', z') + beta * MSE(h'', e'')`` (equation 6 of the paper, with features in the place of logits and
    of labels) on two draws from the memory: z' are the student's features when the captions came into it, e'' the
    teacher's. Rows of the second draw take part in the contrastive loss, as in ER."""

    label, is_default = "student", False
    draws = ("replay", "dark")

    def replay_losses(self, features, memory):
        dark = mean_distance(features["dark"], memory["dark"]["student_features"])
        replay = mean_distance(features["replay"], memory["replay"]["text_features"])
        return {"dark": (self.cfg.derpp_alpha, dark), "replay": (self.cfg.derpp_beta, replay)}
