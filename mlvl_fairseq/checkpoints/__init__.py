"""Model weights in and out of files: safe readers, one file a format, and exporters."""
