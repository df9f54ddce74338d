"""What a run of languages leaves in its folder: the one place that knows the names of its files, and their order."""
