"""Models whose features are those of their text tower alone: what analyses look into."""

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.networks.clip import ClipNetwork


def load_bare(path, device: str = "cpu", **frozen) -> Encoder:
    """:meth:`Encoder.load`. Raises UserError: no CLIP, or its method adds adapters or prompts to the text tower."""
    encoder = Encoder.load(path, device=device, **frozen)
    if not isinstance(encoder.network, ClipNetwork):
        raise UserError(f"{path}: only text towers of CLIP are analysed")
    if encoder.network.adapter is not None:
        raise UserError(f"{path}: only bare text towers are analysed, and this model's method adds adapters or prompts")
    return encoder
