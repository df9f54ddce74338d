"""Work side by side is as if it had been done one after another: results, messages, errors; and no more at once."""

import logging
import os
import signal
import time

import pytest

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.process.parallel import in_processes


def slower_first(number):
    time.sleep(0.1 * (3 - number))
    logging.getLogger("test").warning("number %d", number)
    if number == 1:
        raise DataError("is odd", "file.txt", 7)
    return number, os.getpid()


def test_results_and_messages_are_in_the_order_of_the_items(caplog):
    results = list(in_processes(lambda number: slower_first(2 * number), range(2), 2))
    assert [number for number, _ in results] == [0, 2]
    assert len({os.getpid(), *(process for _, process in results)}) == 3
    assert [record.getMessage() for record in caplog.records] == ["number 0", "number 2"]


def test_with_one_worker_there_is_one_process():
    assert {process for _, process in in_processes(slower_first, [2, 3], 1)} == {os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bar_of_nothing_is_not_drawn(workers, capsys):
    assert list(in_processes(abs, [], workers, "work", 0)) == []
    assert capsys.readouterr().err == ""
    assert list(in_processes(abs, iter([-1, -2]), workers, "work", 2)) == [1, 2]
    assert "work: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_when_it_is_its_item_s_turn(workers, caplog):
    results = in_processes(slower_first, [0, 1, 2], workers)
    assert next(results)[0] == 0
    with pytest.raises(DataError, match="^file.txt:7: is odd$") as error:
        next(results)
    assert (error.value.path, error.value.line) == ("file.txt", 7)
    assert [record.getMessage() for record in caplog.records] == ["number 0", "number 1"]


def test_no_more_at_once_than_workers_and_items_are_made_when_there_is_a_place(tmp_path):
    def marks():
        return len([path for path in tmp_path.iterdir() if not path.name.startswith(".")])

    def work(number):
        (tmp_path / str(number)).touch()
        time.sleep(0.05)
        at_once = marks()
        (tmp_path / str(number)).unlink()
        return at_once

    def items():
        for number in range(6):
            assert marks() <= 1  # this process is at work, too
            yield number

    at_once = list(in_processes(work, items(), 2))
    assert len(at_once) == 6 and max(at_once) <= 2


def test_others_end_when_the_caller_stops(tmp_path):
    def work(number):
        if number:
            (tmp_path / "process").write_text(str(os.getpid()))
            time.sleep(60)
        while not (tmp_path / "process").exists() or not (tmp_path / "process").read_text():
            time.sleep(0.01)

    results = in_processes(work, range(2), 2)
    next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)


def test_a_process_that_was_killed_is_told():
    with pytest.raises(UserError, match=r"ended from outside \(exit status -9\), perhaps for its memory"):
        list(in_processes(lambda number: os.kill(os.getpid(), signal.SIGKILL), range(2), 2))
