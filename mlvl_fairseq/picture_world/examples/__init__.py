"""Texts about pictures with a label or an answer: hypotheses, questions, and statements about two pictures.

``facts.py`` knows what a scene shows and what claims about it are; ``tasks/`` has a file for each task, which draws
examples and puts them in the published format; ``base.py`` is what they share; ``writing.py`` writes the files.
"""

from mlvl_fairseq.picture_world.examples.base import EXAMPLE_TASKS, Example, ExampleTask
from mlvl_fairseq.picture_world.examples.writing import ExampleSettings, draw_examples, write_examples

__all__ = ["EXAMPLE_TASKS", "Example", "ExampleSettings", "ExampleTask", "draw_examples", "write_examples"]
