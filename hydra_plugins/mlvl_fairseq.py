"""Hydra imports this file by itself: ``fairseq-hydra-train`` then knows this plugin before it reads its configuration,
with its named architectures and the recipes of `mlvl_fairseq.configs`. Other programs that use Hydra are left alone."""

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class MlvlFairseqSearchPath(SearchPathPlugin):
    """Looks for configs in our package, too, after the user's ``--config-dir`` and fairseq's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if "fairseq_cli.hydra_train" not in sys.modules:
            return
        import mlvl_fairseq
        from mlvl_fairseq.fairseq_patches.hydra_train import store_architectures

        mlvl_fairseq.register()
        store_architectures()
        search_path.append("mlvl_fairseq", "pkg://mlvl_fairseq.configs")
