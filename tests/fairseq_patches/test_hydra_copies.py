"""Hydra takes copies of registered configurations, and none of all of them."""

import copy

from hydra.core.config_store import ConfigStore

import mlvl_fairseq

mlvl_fairseq.register()


def test_only_what_is_taken_is_copied():
    store = ConfigStore.instance()
    assert copy.deepcopy({"source": store})["source"] is store
    taken = store.load("task/trikd.yaml").node
    before, taken.max_length = taken.max_length, 5
    assert store.load("task/trikd.yaml").node.max_length == before != 5
