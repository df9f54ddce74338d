"""fairseq takes a path for a list of paths and cuts it at every ``:``, also where that is part of a folder's name.

Breaks without it: ``fairseq-train a:b/corpus --task cll_retrieval ...``, ``fairseq-generate ... --path a:b/mte.pt``.
"""

import os

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.utils")
def keep_what_is_there_whole(module) -> None:
    def make(split_paths):
        def split(paths, *args, **kwargs):
            return [paths] if os.path.exists(paths) else split_paths(paths, *args, **kwargs)

        return split

    wrap(module, "split_paths", make)
