"""Independent pieces of work side by side, each in a forked process, with results, messages and errors as if they had
been done one after another.
"""

import logging
import multiprocessing
import os
import threading
from collections import deque
from itertools import chain, islice
from multiprocessing import connection
from typing import Any, Callable, Deque, Iterable, Iterator, List, Optional, Tuple, TypeVar

from tqdm import tqdm

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.process.signals import (
    Stopped,
    end_with_parent,
    held_back,
    let_through,
    on_stop_signal,
    signal_of_status,
    stop_at_once,
)

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    title: str = "",
    total: Optional[int] = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` of every item, in their order.

    Each call has a process of its own, forked when it begins, so that its memory is given back when it ends. The next
    item is asked for when there is a place for it: making it may be work, too. What calls log is logged here, in the
    items' order; so is the first error raised. Where one fails, or the caller stops, the others are ended.

    Args:
        workers: calls at the same time; up to 1: they are made in this process.
        title: of a progress bar over the items, if there are any; empty: none. total: how many they are, for the bar.

    Raises:
        UserError: a process was ended from outside. Whatever `function` raises.
    """
    items = iter(items)
    begin = list(islice(items, 1))
    if not begin:
        return  # without an empty bar
    items = chain(begin, items)
    with tqdm(total=total, desc=title, disable=not title) as bar:
        results = map(function, items) if workers <= 1 else _side_by_side(function, items, workers)
        for result in results:
            bar.update()
            yield result


def _side_by_side(function: Callable, items: Iterator, workers: int) -> Iterator:
    begun: Deque[_Call] = deque()
    more = True
    try:
        while more or begun:
            while more and sum(not call.ended for call in begun) < workers:
                try:
                    begun.append(_Call(function, next(items)))
                except StopIteration:
                    more = False
            while begun and begun[0].ended:
                yield begun.popleft().result()
            waiting = [call for call in begun if not call.ended]
            if waiting and (not more or len(waiting) >= workers):
                ready = connection.wait([call.answers for call in waiting])
                for call in waiting:
                    if call.answers in ready:
                        call.receive()
    finally:
        for call in begun:
            call.end()


class _Call:
    """A function at work on an item in a process of its own."""

    def __init__(self, function: Callable, item):
        context = multiprocessing.get_context("fork")
        self.answers, answer = context.Pipe(duplex=False)
        self.ended = False
        self._answer: Optional[Tuple[bool, Any, List[logging.LogRecord]]] = None
        self._process = context.Process(target=_work, args=(function, item, answer))
        with held_back():
            self._process.start()
        answer.close()

    def receive(self) -> None:
        """Take what the process has to say; it has ended then."""
        try:
            self._answer = self.answers.recv()
        except EOFError:
            pass
        self._process.join()
        self.ended = True

    def result(self):
        """What the function has returned, or raised, after what it has logged."""
        if self._answer is None:
            status = self._process.exitcode
            number = signal_of_status(status)
            if number is not None:
                raise Stopped(number)
            raise UserError(
                f"a process was ended from outside (exit status {status}), perhaps for its memory: the same command "
                "continues; with fewer processes at once (--num-workers) it needs less"
            )
        is_well, value, records = self._answer
        for record in records:
            logging.getLogger(record.name).handle(record)
        if not is_well:
            raise value
        return value

    def end(self) -> None:
        if not self.ended:
            self._process.terminate()
            self._process.join()
        self.answers.close()


class _Kept(logging.Handler):
    """Keeps what is logged, in a form that can be sent."""

    def __init__(self):
        super().__init__()
        self.records: List[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self.records.append(record)


def _work(function: Callable, item, answer: connection.Connection) -> None:
    """What a process does. All of them together have the cores: none of their libraries may take several."""
    end_with_parent()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tqdm.set_lock(threading.RLock())  # another thread of the parent may have held the inherited one
    kept = _Kept()
    logging.getLogger().handlers = [kept]
    with on_stop_signal(stop_at_once):
        let_through()
        try:
            said = (True, function(item))
        except Exception as error:
            said = (False, error)
        answer.send((*said, kept.records))
