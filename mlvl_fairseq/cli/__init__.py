"""The ``mlvl-*`` commands."""

from mlvl_fairseq.process.threads import sleep_when_idle

sleep_when_idle()  # OpenMP asks when torch is imported, which is later
