"""A greedy balanced memory (GDumb, Prabhu et al. 2020): the same number of random captions of every language."""

import numpy as np
import torch

from mlvl_fairseq.continual.memory.base import Selection, register_selection


@register_selection("balanced")
class Balanced(Selection):
    about = "as many random captions of every language"

    def at_the_end(self, memory, task, model):
        """Keep the first captions of each earlier language's draw, add one of the language that has just ended."""
        quotas, last = self.quotas(task.position), task.position - 1
        kept = [keep_first(memory.items, lang, quotas[lang]) for lang in range(last)]
        rows = self.choose(memory, task, model, int(quotas[last]))
        items = torch.from_numpy(np.stack([np.full_like(rows, last), rows], axis=1)).to(memory.items.device)
        labels = memory.label(task, model, rows)
        return (
            torch.cat([*(memory.items[row] for row in kept), items]),
            torch.cat([*(memory.labels[row] for row in kept), labels]),
        )

    def choose(self, memory, task, model, number: int) -> np.ndarray:
        """int64 [number]: captions of the language that has just ended, the most wanted first."""
        captions = task.caption_count(task.learned[-1])
        return np.random.default_rng([self.seed, task.position]).permutation(captions)[:number]


def keep_first(items: torch.Tensor, lang: int, number: int) -> torch.Tensor:
    """Rows of the first `number` entries of a language, in their order."""
    return (items[:, 0] == lang).nonzero().squeeze(1)[:number]
