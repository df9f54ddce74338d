"""The published code's tiny CCLM after fine-tuning for retrieval, its input, and what its two-stage evaluation gives
(``fixtures/golden_cclm_retrieval``)."""

import numpy as np
import torch
from golden import FIXTURES, load_golden
from golden_cclm import POSITIONS, VOCABULARY, WIDTH, our_name

from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.networks.cclm import CclmNetwork

WEIGHTS = "weights."


def golden_retrieval():
    """Sections of the table, and arrays by name."""
    with np.load(FIXTURES / "golden_cclm_retrieval.npz") as file:
        return load_golden("cclm_retrieval"), {name: file[name] for name in file}


def golden_retrieval_network(arrays):
    """With the weights among `arrays`: files after fine-tuning have no wrapper of a language model in their names."""
    swin = SwinConfig(64, 4, 4, (2, 2, 2, 2), (1, 2, 2, 4), 2)
    text = CclmTextConfig(VOCABULARY, WIDTH, 6, 4, 64, POSITIONS)
    network = CclmNetwork(swin.build(), text.build(), 16, 6, heads="matching").eval()
    ours = {
        our_name(name.removeprefix(WEIGHTS).replace("text_encoder.", "text_encoder.bert.")): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(WEIGHTS)
    }
    buffers = {name: tensor for name, tensor in network.state_dict().items() if "relative_position_index" in name}
    network.load_state_dict({**buffers, **ours})
    return network
