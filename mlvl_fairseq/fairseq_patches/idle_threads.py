"""Threads that have nothing to do take the cores from those that have: fairseq imports torch, whose OpenMP then asks
the environment how threads wait, before it knows of ``--user-dir``.

Breaks without it: ``fairseq-train`` on a machine with other work, where it takes many times as long.
"""

from mlvl_fairseq.fairseq_patches.patching import patches
from mlvl_fairseq.process.threads import sleep_when_idle


@patches("fairseq_cli.train", "fairseq_cli.hydra_train", "fairseq_cli.validate")
def let_idle_threads_sleep(module) -> None:
    sleep_when_idle()
