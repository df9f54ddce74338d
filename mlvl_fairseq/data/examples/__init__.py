"""Examples of the tasks that a network of images and texts is fine-tuned for: one or two images, a text, and a label or
answers.

One file a format in ``readers/``; :func:`read_examples` tells the format by content.
"""

from mlvl_fairseq.data.examples.base import (
    Example,
    ExampleBuilder,
    ExampleReader,
    Examples,
    register_example_reader,
)
from mlvl_fairseq.data.examples.images import ExampleImageOptions, ExampleImages
from mlvl_fairseq.data.examples.reading import ExampleOptions, example_files, example_readers, read_examples

__all__ = [
    "Example",
    "ExampleBuilder",
    "ExampleImageOptions",
    "ExampleImages",
    "ExampleOptions",
    "ExampleReader",
    "Examples",
    "example_files",
    "example_readers",
    "read_examples",
    "register_example_reader",
]
