"""fairseq drops the last batch of a data set unless its size is a multiple of ``--required-batch-size-multiple``, 8 by
default (fairseq issues #5036, #5351): up to 7 sentences are neither trained on, nor validated, nor generated, and a set
of fewer than 8 is empty. What it documents is "less than N or a multiple of N".

Our data sets could override ``batch_by_size``; fairseq's own cannot, and lose as much.

Breaks without it: ``fairseq-generate``, ``fairseq-validate`` and ``fairseq-train`` of ``--task translation`` with 20
sentences, ours with 20 captions.
"""

import numpy as np

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.data.data_utils")
def keep_last_batch(module) -> None:
    def make(batch_by_size):
        def batch_all_by_size(indices, *args, **kwargs):
            if not isinstance(indices, np.ndarray):
                indices = np.fromiter(indices, dtype=np.int64, count=-1)
            batches = list(batch_by_size(indices, *args, **kwargs))
            batched = sum(len(batch) for batch in batches)
            # batches are consecutive pieces, except those of fixed shapes, which are complete
            return batches + [indices[batched:]] if batched < len(indices) else batches

        return batch_all_by_size

    wrap(module, "batch_by_size", make)
