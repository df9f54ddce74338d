"""fairseq's conditional random field (``nacrf_transformer``) says ``np.float``, which numpy removed in 1.24.

``np.int`` in `fairseq.data.data_utils` is left alone: the audio masks that use it fail one line later all the same.
"""

from mlvl_fairseq.fairseq_patches.patching import Overlay, patches


@patches("fairseq.modules.dynamic_crf_layer")
def restore_float(module) -> None:
    if not hasattr(module.np, "float"):
        module.np = Overlay(module.np, float=float)
