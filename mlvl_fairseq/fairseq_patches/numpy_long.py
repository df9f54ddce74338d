"""fairseq's ``np.compat.long``, Python's int since Python 3, is gone from numpy 2.

Breaks without it: ``fairseq-train --task language_modeling`` and ``masked_lm`` where a block is a sentence
(``--sample-break-mode eos``), ``fairseq-eval-lm`` and ``fairseq-generate --task language_modeling`` (always so), and
``fairseq-train --task translation --num-batch-buckets N``.
"""

from types import SimpleNamespace

from mlvl_fairseq.fairseq_patches.patching import Overlay, patches


@patches("fairseq.data.token_block_dataset", "fairseq.data.language_pair_dataset")
def restore_long(module) -> None:
    if not hasattr(module.np, "compat"):
        module.np = Overlay(module.np, compat=SimpleNamespace(long=int))
