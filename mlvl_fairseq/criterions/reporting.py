"""How losses reach fairseq's progress bar and logs."""

from typing import Dict, List, Optional

from fairseq.logging import metrics

COUNTS = ("sample_size", "nsentences", "ntokens")


def log_losses(logging_outputs: List[Dict], names: Optional[List[str]] = None) -> None:
    """Log each of `names` as its sum over all rows divided by their number; None: all that is logged but counts."""
    if names is None:
        names = sorted({name for log in logging_outputs for name in log if name not in COUNTS})
    rows = sum(float(log.get("sample_size", 0)) for log in logging_outputs)
    for name in names:
        total = sum(float(log.get(name, 0)) for log in logging_outputs)
        metrics.log_scalar(name, total / rows if rows else 0.0, rows, round=4)
