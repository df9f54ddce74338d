"""Other programs at work without what they log of it."""

import contextlib
import logging
import os
import sys
from typing import Iterator

HUB, HUB_OPTION = "huggingface_hub", "HF_HUB_DISABLE_PROGRESS_BARS"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what other programs log of their loading, and their progress bars; warnings stay."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    with contextlib.ExitStack() as stack:
        stack.callback(logging.disable, before)
        if HUB not in sys.modules:
            os.environ.setdefault(HUB_OPTION, "1")  # which it reads when it is imported
        else:
            from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

            if not are_progress_bars_disabled():
                disable_progress_bars()
                stack.callback(enable_progress_bars)
        yield
