"""fairseq still says ``np.int`` (data_utils) and ``np.float`` (dynamic_crf_layer), which numpy removed in 1.24."""

from mlvl_fairseq.compat.patching import Overlay, patches


@patches("fairseq.data.data_utils", "fairseq.modules.dynamic_crf_layer")
def restore_aliases(module) -> None:
    missing = {alias.__name__: alias for alias in (int, float) if not hasattr(module.np, alias.__name__)}
    if missing:
        module.np = Overlay(module.np, **missing)
