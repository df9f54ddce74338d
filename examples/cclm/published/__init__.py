"""CCLM's published program, ``run.py``, by our commands: its tasks, flags and configurations.

A task is one file of ``tasks/``, found by being there.
"""
