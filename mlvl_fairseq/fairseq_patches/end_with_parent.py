"""Ranks that ``fairseq-train --distributed-world-size N`` spawns outlive a parent that is killed: torch has the system
send them SIGINT, and what a script starts in the background ignores that.

Breaks without it: ``fairseq-train --distributed-world-size 2 ... &``, killed.
"""

from functools import partial

from mlvl_fairseq.fairseq_patches.patching import patches, wrap
from mlvl_fairseq.process.signals import end_with_parent


def _run(main, cfg, **kwargs):
    end_with_parent()
    return main(cfg, **kwargs)


@patches("fairseq.distributed.utils")
def ranks_end_with_their_parent(module) -> None:
    def make(call_main):
        def call(cfg, main, **kwargs):
            return call_main(cfg, partial(_run, main), **kwargs)

        return call

    wrap(module, "call_main", make)
