"""What a conversion is: options, and a function from a file of another program to a checkpoint of ours."""

from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Callable, ClassVar, Dict, Type

from mlvl_fairseq.registry import registering


class Conversion(ABC):
    """One kind of released file.

    Attributes:
        help: in a line. description: of what is written. checkpoint: what file is read.
    """

    help: ClassVar[str]
    description: ClassVar[str]
    checkpoint: ClassVar[str]

    def add_inputs(self, parser: ArgumentParser) -> None:
        """What is read, before the folder to write to."""
        parser.add_argument("checkpoint", help=self.checkpoint)

    def add_options(self, parser: ArgumentParser) -> None:
        """Options beside the checkpoint and the folder to write to."""

    @abstractmethod
    def convert(self, args: Namespace) -> Path:
        """Write into the folder ``args.out``, which is there, from ``args.checkpoint``.

        Returns:
            the checkpoint to go on with.

        Raises:
            DataError: the file is not of this kind, or damaged. UserError: options do not fit it.
        """


CONVERSIONS: Dict[str, Conversion] = {}


def register_conversion(name: str) -> Callable[[Type[Conversion]], Type[Conversion]]:
    """Class decorator: ``mlvl-convert NAME``."""
    return registering(CONVERSIONS, "a conversion", name, instance=True)
