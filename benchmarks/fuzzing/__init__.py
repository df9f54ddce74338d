"""What `fuzz.py` is made of: kinds of files, ways to damage them, and trying an input under limits."""
