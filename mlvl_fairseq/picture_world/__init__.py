"""A small multilingual picture world: generated pictures with grammatical captions in many languages.

Data for trying things out in minutes on a CPU, and for tests. ``scenes.py`` says what there is to see; ``layout.py``,
``drawing.py``, ``shapes.py`` and ``backgrounds.py`` paint it; ``captions.py`` and ``languages/`` say it; ``world.py``
puts data sets together, ``writing.py`` writes them in the caption formats that real data sets come in; ``classes.py``
writes folders of classes, ``streams.py`` what CCLM is trained on, ``examples/`` texts with labels and
questions with answers to fine-tune on.
"""

from mlvl_fairseq.picture_world.classes import write_classes
from mlvl_fairseq.picture_world.examples import ExampleSettings, write_examples
from mlvl_fairseq.picture_world.languages import get_language, language_codes
from mlvl_fairseq.picture_world.streams import StreamSettings, write_streams
from mlvl_fairseq.picture_world.world import WorldSettings, plan_world
from mlvl_fairseq.picture_world.writing import write_world

__all__ = [
    "ExampleSettings",
    "StreamSettings",
    "WorldSettings",
    "get_language",
    "language_codes",
    "plan_world",
    "write_classes",
    "write_examples",
    "write_streams",
    "write_world",
]
