"""Files of other programs, one format a file: each maps names, and nothing else."""
