"""Signals as requests; what they do to a training is tested in end_to_end/test_signals.py."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from mlvl_fairseq.process import signals as stop_signals
from mlvl_fairseq.process.signals import Forwarder, Stopped, on_stop_signal, signal_of_status, stop_at_once

fork = multiprocessing.get_context("fork")


def ended(function):
    """Exit status of a forked process."""
    process = fork.Process(target=function)
    process.start()
    process.join(30)
    return process.exitcode


def me(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_status_is_the_shells(number, status):
    def work():
        with on_stop_signal(stop_at_once):
            me(number)

    assert ended(work) == status
    assert signal_of_status(status) == signal_of_status(-number) == number
    assert all(signal_of_status(other) is None for other in (None, 0, 1, 2, -9, 137))


def test_signals_within_a_second_are_one_request():
    requests = []
    with on_stop_signal(requests.append):
        me(signal.SIGTERM)
        me(signal.SIGTERM)
        me(signal.SIGINT)
    assert requests == [signal.SIGTERM]


def test_later_signal_ends_at_once(monkeypatch):
    monkeypatch.setattr(stop_signals, "ONE_REQUEST", 0.05)

    def work():
        with on_stop_signal(lambda number: None):
            me(signal.SIGTERM)
            time.sleep(0.1)
            me(signal.SIGINT)
            time.sleep(10)

    assert ended(work) == -signal.SIGINT


def test_handlers_are_as_before_afterwards():
    before = [signal.getsignal(number) for number in stop_signals.SIGNALS]
    with pytest.raises(Stopped), on_stop_signal(stop_at_once):
        me(signal.SIGTERM)
    assert [signal.getsignal(number) for number in stop_signals.SIGNALS] == before


def test_ignored_signals_stay_ignored():
    """``nohup`` and scripts that start a command in the background have them ignored."""

    def work():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with on_stop_signal(stop_at_once):
            me(signal.SIGINT)

    assert ended(work) == 0


def test_other_threads_are_let_alone():
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work():
        with on_stop_signal(stop_at_once):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_workers_leave_the_first_signal_to_their_parent(tmp_path):
    def worker():
        me(signal.SIGINT)
        me(signal.SIGTERM)
        (tmp_path / "delivered").touch()
        me(signal.SIGTERM)  # multiprocessing's own, at the end
        time.sleep(10)

    with on_stop_signal(stop_at_once):
        assert ended(worker) == -signal.SIGTERM
    assert (tmp_path / "delivered").exists()


def test_forwarder_without_children_stops():
    with pytest.raises(Stopped), on_stop_signal(Forwarder()):
        me(signal.SIGTERM)
