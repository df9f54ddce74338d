"""Kinds of archives, one file each; all are imported by :mod:`mlvl_fairseq.data.archives`."""
