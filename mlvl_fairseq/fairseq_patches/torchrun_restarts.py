"""torchrun (torch 2.4 and later) keeps one store for all its rounds: ranks that it starts again find the addresses of
those before, and fail to connect, or wait for ever. Where every round has a store of its own, they go on from
``checkpoint_last.pt``.

Breaks without it: ``torchrun --max-restarts 3 ... fairseq-train ...``, when a rank is killed, hours later.
"""

import os

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap

_OWN_STORES = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


@patches("fairseq.distributed.utils")
def require_a_store_for_each_round(module) -> None:
    def make(call_main):
        def call_main_or_explain(cfg, main, **kwargs):
            restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")
            if restarts != "0" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
                raise UserError(
                    f"torchrun --max-restarts {restarts} would give ranks that it starts again the addresses of those "
                    f"before: set {_OWN_STORES}=1 in its environment, on every machine"
                )
            return call_main(cfg, main, **kwargs)

        return call_main_or_explain

    wrap(module, "call_main", make)
