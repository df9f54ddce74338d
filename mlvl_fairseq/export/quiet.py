"""Other programs at work without what they log of it."""

import contextlib
import logging
from typing import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what other programs log of their loading, and their progress bars; warnings stay."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    with contextlib.ExitStack() as stack:
        stack.callback(logging.disable, before)
        with contextlib.suppress(ImportError):
            from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

            if not are_progress_bars_disabled():
                disable_progress_bars()
                stack.callback(enable_progress_bars)
        yield
