"""fairseq models: the towers of `modules/` wired together, with fairseq's configuration and checkpoints."""
