"""Experience replay (Chaudhry et al. 2019), as it is in CLL-CLIP's table (Yang et al. 2024)."""

from mlvl_fairseq.continual.plugin import register_plugin
from mlvl_fairseq.continual.plugins.replay import ReplayMethod, mean_distance


@register_plugin("er")
class ExperienceReplay(ReplayMethod):
    """``scale * MSE(h, e)`` over replayed captions, towards the teacher's English features e; they are rows of the
    contrastive loss like the batch's own."""

    is_default = True
    target = "text_features"

    def replay_losses(self, features, memory):
        mse = mean_distance(features["replay"], memory["replay"][self.target])
        return {"replay": (self.cfg.replay_scale, mse)}

    def cross_modal(self, contrast, features, sample):
        if not self.is_replaying(sample):
            return None
        rows = self.rows(features, sample)
        return contrast(rows.text, rows.image, rows.ids) / len(rows.ids)
