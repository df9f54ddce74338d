"""What to do with images that cannot be used: options of every command that reads some, and their meaning."""

import logging
from dataclasses import dataclass, field
from typing import Callable, Optional, Sequence

from mlvl_fairseq.errors import DataError, UserError

logger = logging.getLogger(__name__)

BAD_IMAGE_ACTIONS = ("error", "skip")
_GROUP = "pictures as they come"


@dataclass(frozen=True)
class BadImagePolicy:
    """What to do with images that cannot be loaded, or whose given features stand for nothing.

    Args:
        action: ``error`` stops at the first one; ``skip`` goes on without it.
        limit: with ``skip``, more bad images than this stop the work: then the folder is wrong, not an image.

    Raises:
        UserError: there is no such action.
    """

    action: str = "error"
    limit: int = 100

    def __post_init__(self) -> None:
        if self.action not in BAD_IMAGE_ACTIONS:
            raise UserError(f"--bad-image {self.action}: choose one of {', '.join(BAD_IMAGE_ACTIONS)}")

    @classmethod
    def of(cls, options: "PictureOptions") -> "BadImagePolicy":
        """What options say; they can be a task's. Raises UserError: there is no such action."""
        return cls(str(options.bad_image), options.max_bad_images)

    def accept(self, problem: str, count: int) -> None:
        """Log the `count`-th bad image, or stop at it.

        Raises:
            DataError: the action is ``error``, or there are too many.
        """
        if self.action == "error":
            raise DataError(f"{problem} (--bad-image skip goes on without such images and their captions)")
        if count > self.limit:
            raise DataError(f"{problem} (bad image {count}; --max-bad-images allows {self.limit})")
        logger.warning("bad image %d (%d are allowed): %s", count, self.limit, problem)

    def accept_all(self, problems: Sequence[str]) -> None:
        """:meth:`accept` one after another."""
        for count, problem in enumerate(problems, 1):
            self.accept(problem, count)


def _unless(default: str) -> Callable[[str], Optional[str]]:
    """What an option says about results: nothing where it is the default, which older results were made with."""
    return lambda value: None if value == default else value


@dataclass
class PictureOptions:
    """Options of commands and tasks that read pictures, or features of them."""

    bad_image: str = field(
        default="error",
        metadata={
            "help": "an image that cannot be read, or whose given feature is zero, constant or not finite: stop, or "
            "leave out its texts and count them",
            "choices": BAD_IMAGE_ACTIONS,
            "identity": None,
            "group": _GROUP,
        },
    )
    max_bad_images: int = field(
        default=100, metadata={"help": "with skip: stop after so many", "least": 1, "identity": None, "group": _GROUP}
    )
    high_bit_depth: str = field(
        default="clip",
        metadata={
            "help": "pictures of 16-bit, 32-bit or floating point values: cut them at 0 and 255, as CLIP's own "
            "preprocessing does (most become white or black), or scale each picture's own range to 0 ... 255",
            "choices": ("clip", "scale"),
            "identity": _unless("clip"),
            "group": _GROUP,
        },
    )
