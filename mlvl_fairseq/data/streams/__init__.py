"""Records of files as streams that a network is pre-trained on (CCLM, Zeng et al. 2023): images with captions, images
with boxes, parallel text.

A kind of stream is one file of ``kinds/``. A record is read when it is asked for, from the place in its file that an
index says; everything that is drawn depends on seed, epoch, stream and record alone.
"""

from mlvl_fairseq.data.streams import kinds as _kinds  # noqa: F401  (registers them)
from mlvl_fairseq.data.streams.base import STREAM_KINDS, StreamKind, Tools
from mlvl_fairseq.data.streams.dataset import Stream, StreamsDataset
from mlvl_fairseq.data.streams.records import Records

__all__ = ["STREAM_KINDS", "Records", "Stream", "StreamKind", "StreamsDataset", "Tools"]
