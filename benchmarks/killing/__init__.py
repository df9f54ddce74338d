"""What `kills.py` is made of: commands that write, processes that are killed at a moment, comparing what they leave."""
