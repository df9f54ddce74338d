"""Threads of OpenMP, which computes for torch: idle ones sleep, and processes that run side by side share the cores.

By default a thread that has done its part of an operation looks for the next one in a loop, for milliseconds. On a
machine with other work that takes the cores from those who have something to do.
"""

import ctypes
import os
import sys
import threading

# What users say about waiting: to GNU's OpenMP, which torch's wheels bring, and to Intel's and LLVM's
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
_SAYS_HOW_TO_WAIT = (*WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_threads(processes: int) -> None:
    """Compute, now or once torch is imported, with this process's share of the cores, of which `processes` run side by
    side; fewer threads stay as they are."""
    most = max(1, cores() // processes)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.set_num_threads(min(most, torch.get_num_threads()))
    else:
        given = os.environ.get("OMP_NUM_THREADS", "")
        os.environ["OMP_NUM_THREADS"] = str(min(most, int(given)) if given.isdecimal() and int(given) else most)


def one_thread() -> None:
    """Let the calling thread, one of several that do the same, compute alone; other threads stay as they are."""
    import torch

    torch.get_num_threads()  # the first question gives a thread as many as the process has
    library = _openmp()
    if library is not None:
        library.omp_set_num_threads(1)


def sleep_when_idle() -> None:
    """Let idle threads of this process, and of those that it starts, sleep, unless its environment says how they wait.

    OpenMP reads the environment when torch is imported. Where that has happened already, GNU's is told by other means:
    while there are more threads than processors, those that are idle look for work no more than some microseconds.
    A thread that sleeps itself keeps as many threads asleep as there are processors.
    """
    if any(name in os.environ for name in _SAYS_HOW_TO_WAIT):
        return
    os.environ.update(WAITING)
    library = _openmp() if "torch" in sys.modules else None
    if library is not None and library.omp_get_max_threads() > 1:
        ready = threading.Event()
        threading.Thread(target=_hold_threads, args=(library, ready), name="idle OpenMP threads", daemon=True).start()
        ready.wait()


def _hold_threads(library, ready: threading.Event) -> None:
    nothing = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p)
    library.GOMP_parallel(nothing, None, cores(), 0)  # its threads stay with the one that has called it
    ready.set()
    threading.Event().wait()


def _openmp():
    """GNU's OpenMP, as torch has loaded it; None: torch has another one."""
    process = ctypes.CDLL(None)
    return process if hasattr(process, "GOMP_parallel") and hasattr(process, "omp_set_num_threads") else None
