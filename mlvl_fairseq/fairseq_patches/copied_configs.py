"""Hydra composes from a copy of its list of sources, and copies with one of them every configuration that is known to
fairseq, although a source copies whatever it gives: half of the time that composing takes.

Breaks without it: ``fairseq-train``, ``mlvl-cll``, of which every language starts later.
"""

import copy

from mlvl_fairseq.fairseq_patches.patching import patches


@patches("hydra.plugins.config_source")
def share_known_configs(module) -> None:
    module.ConfigSource.__deepcopy__ = lambda source, memo: copy.copy(source)
