"""torchrun that cannot start ranks again is told so before the first update."""

import pytest
from fairseq.distributed import utils as distributed
from omegaconf import OmegaConf

from mlvl_fairseq.errors import UserError

ALONE = OmegaConf.create(
    {
        "common": {"cpu": True, "tpu": False},
        "distributed_training": {"distributed_world_size": 1, "distributed_init_method": None, "tpu": False},
    }
)


@pytest.mark.parametrize("restarts, shared, fits", [("3", "True", False), ("3", "False", True), ("0", "True", True)])
def test_restarts_need_a_store_for_each_round(monkeypatch, restarts, shared, fits):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", restarts)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", shared)
    monkeypatch.setattr(distributed, "infer_init_method", lambda options: None)
    called = []
    if fits:
        distributed.call_main(ALONE, called.append)
    else:
        with pytest.raises(UserError, match="--max-restarts 3 .* set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
            distributed.call_main(ALONE, called.append)
    assert len(called) == fits
