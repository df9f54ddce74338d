"""LilT's optimizer, schedule and limit of samples in fairseq-train."""

UPDATES = 6  # an epoch, of 16 captions each
