"""What to do with records that cannot be used, and how it is told."""

import logging
from dataclasses import dataclass, field
from typing import Dict, Iterable

from mlvl_fairseq.errors import DataError, UserError

logger = logging.getLogger(__name__)

ACTIONS = ("error", "skip")


@dataclass
class RecordOptions:
    """Options of tasks that read streams of records."""

    bad_record: str = field(
        default="error",
        metadata={
            "help": "a record that cannot be used (no JSON, no caption, a picture that cannot be read, a box outside "
            "its picture): stop, or leave out what cannot be used and count it",
            "choices": ACTIONS,
        },
    )
    max_bad_records: int = field(default=100, metadata={"help": "with skip: stop after so many, on each rank"})


class BadRecords:
    """Counts what is left out, whatever process has met it; each place once, however often it comes.

    Args:
        options: :class:`RecordOptions`; they can be a task's.

    Raises:
        UserError: there is no such action.
    """

    def __init__(self, options: RecordOptions):
        self.action, self.limit = str(options.bad_record), options.max_bad_records
        if self.action not in ACTIONS:
            raise UserError(f"--bad-record {self.action}: choose one of {', '.join(ACTIONS)}")
        self.known: Dict[str, None] = {}

    def tell(self, problems: Iterable[str]) -> None:
        """Log what is new among them.

        Raises:
            DataError: the action is ``error``, or there are too many.
        """
        for problem in problems:
            if problem in self.known:
                continue
            self.known[problem] = None
            if self.action == "error":
                raise DataError(f"{problem} (--bad-record skip goes on without what cannot be used)")
            if len(self.known) > self.limit:
                raise DataError(f"{problem} (bad record {len(self.known)}; --max-bad-records allows {self.limit})")
            logger.warning("bad record %d (%d are allowed): %s", len(self.known), self.limit, problem)
