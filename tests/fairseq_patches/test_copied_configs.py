"""What Hydra composes from is not copied, and stays as it is whatever becomes of what was composed."""

import copy

from fairseq.dataclass.initialize import hydra_init
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import mlvl_fairseq  # noqa: F401


def test_composed_configs_are_the_callers_own():
    hydra_init("mlvl_test_copies")
    stored = ConfigStore.instance().repo["mlvl_test_copies.yaml"].node
    before = OmegaConf.to_yaml(stored)
    GlobalHydra.instance().clear()
    with initialize_config_module("mlvl_fairseq.configs", version_base="1.1"):
        repository = GlobalHydra.instance().config_loader().repository
        copied = copy.deepcopy(repository)
        assert copied.sources is not repository.sources
        assert copied.get_schema_source().store is ConfigStore.instance()
        composed = compose("mlvl_test_copies", ["common.seed=77"])
        assert composed.common.seed == 77
        composed.common.seed = 78
        assert OmegaConf.to_yaml(stored) == before
        assert compose("mlvl_test_copies").common.seed == 1
