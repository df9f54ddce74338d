"""Dark experience replay (Buzzega et al. 2020), as it is in CLL-CLIP's table (Yang et al. 2024)."""

from mlvl_fairseq.continual.plugin import register_plugin
from mlvl_fairseq.continual.plugins.er import ExperienceReplay


@register_plugin("der")
class DarkExperienceReplay(ExperienceReplay):
    """As ER, with another target: the student's own features when the caption came into the memory."""

    label = "student"
    target = "student_features"
