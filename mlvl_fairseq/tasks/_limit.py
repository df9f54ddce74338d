"""``--limit-samples``: training on the first captions only."""

import logging
from dataclasses import dataclass, field

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.options import check_number

logger = logging.getLogger(__name__)


@dataclass
class LimitOptions:
    limit_samples: int = field(
        default=0,
        metadata={
            "help": "train on the first so many captions that can be used, of all --langs one after the other; 0: on "
            "all. Validation keeps all of its own"
        },
    )


class LimitsSamples:
    """Mixin in front of a :class:`CaptionTask` whose config has :class:`LimitOptions`."""

    def usable(self, split: str, lang: str) -> np.ndarray:
        """As every task's; of training captions only those within the limit, which are told once.

        Raises:
            UserError: the languages before leave nothing of the limit to this one.
        """
        check_number(self.cfg, "limit_samples")
        usable, limit = super().usable(split, lang), self.cfg.limit_samples
        if split != "train" or not limit:
            return usable
        earlier = self.trained_languages[: self.trained_languages.index(lang)]
        before = sum(len(super(LimitsSamples, self).usable(split, other)) for other in earlier)
        kept = usable[: max(0, limit - before)]
        if not len(kept):
            raise UserError(f"--limit-samples {limit} leaves no caption in '{lang}': before it there are {before}")
        if (split, lang, limit) not in self._told:
            self._told.add((split, lang, limit))
            logger.info(f"train: {len(kept):,} of {len(usable):,} captions in {lang} (--limit-samples {limit})")
        return kept
