"""fairseq criterions: call `losses/`, log."""
