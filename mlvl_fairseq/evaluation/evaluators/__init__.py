"""What a model can be scored on, one file each."""
