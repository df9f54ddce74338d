"""What happened inside the models of a sequence."""
