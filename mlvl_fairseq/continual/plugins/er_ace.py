"""Asymmetric contrast in replay, after ER-ACE (Caccia et al. 2022, "New Insights on Reducing Abrupt Representation
Change in Online Continual Learning")."""

from mlvl_fairseq.continual.plugin import register_plugin
from mlvl_fairseq.continual.plugins.er import ExperienceReplay


@register_plugin("er_ace")
class ErAce(ExperienceReplay):
    """As ER, but new captions and images have negatives among the batch's own only, replayed ones among all: what is
    new does not push away what is known (ER-ACE masks the classes that are not in the incoming batch)."""

    is_default = False

    def cross_modal(self, contrast, features, sample):
        if not self.is_replaying(sample):
            return None
        rows = self.rows(features, sample)
        new = contrast(features["text"], features["image"], sample["image_ids"])
        replayed = contrast(rows.text, rows.image, rows.ids, queries=rows.replayed)
        return (new + replayed) / len(rows.ids)
