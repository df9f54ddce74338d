"""A TriKD whose batches say how long sentences are asks its device neither for its encoder nor for its head."""

import pytest
import torch
from host_syncs import Watch

from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrConfig
from mlvl_fairseq.modules.x_projector import CProjector, XProjector
from mlvl_fairseq.networks.trikd import TrikdNetwork


@pytest.mark.parametrize("chunk", [0, 2])
def test_known_lengths_are_not_asked_of_the_device(chunk):
    torch.manual_seed(0)
    network = TrikdNetwork(XProjector(16, 24, 2, 2), CProjector(8, 16), XlmrConfig(30, 2, 16, 24, 2, 12).build()).eval()
    network.encode_chunk = chunk
    tokens = torch.tensor([[0, 5, 6, 2], [0, 7, 2, PAD], [0, 2, PAD, PAD]])
    ends = torch.tensor([3, 2, 1])
    lengths, asked = (ends + 1).numpy(), 0
    for known in (lengths, None):
        with Watch().watching() as watch:
            found = network(tokens, ends, lengths=known)["text"]
        asked += len(watch.found)
        assert (known is None) == bool(watch.found)
        torch.testing.assert_close(found, network(tokens, ends)["text"])
    assert asked == (2 if not chunk else 4)  # an encoder and a head, of each chunk
