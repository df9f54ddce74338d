"""Hydra copies all configurations that have been registered each time it composes one, as every start of fairseq does.
Those that it takes are copied again when they are taken: the first copies are not needed.

Breaks without it: ``fairseq-train``, which starts later, and ``fairseq-hydra-train``, which composes three times.
"""

from mlvl_fairseq.fairseq_patches.patching import patches


@patches("hydra.core.config_store")
def copy_what_is_taken_only(module) -> None:
    module.ConfigStore.__deepcopy__ = lambda store, memo: store
