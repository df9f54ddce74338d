"""A CLIP of ours as plain towers and plain tokens, which formats of CLIPs of other programs are written from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional

from mlvl_fairseq.checkpoints.clip import CLIPWeights
from mlvl_fairseq.data.text import ClipTokenizer
from mlvl_fairseq.export.tokenizers import unfit_tokenizer
from mlvl_fairseq.export.towers import activation_of
from mlvl_fairseq.modules.heads import FeatureHead

if TYPE_CHECKING:
    from mlvl_fairseq.inference import Encoder


@dataclass(frozen=True)
class PlainClip:
    """Attributes: weights: both towers, as many rows of the token embedding as there are tokens. tokenizer: of these.
    languages: learned in sequence."""

    weights: CLIPWeights
    tokenizer: ClipTokenizer
    languages: List[str]

    @classmethod
    def of(cls, encoder: "Encoder", lang: Optional[str] = None) -> "PlainClip":
        """Args: lang: the language whose captions are cut; None: any. See :func:`unfit_clip`, which comes first."""
        network, tokenizer = encoder.network, encoder.tokenizer.of_language(lang)
        text = dict(network.text.state_dict())
        text["token_embedding.weight"] = text["token_embedding.weight"][: len(tokenizer)]
        vision = {} if network.vision is None else dict(network.vision.state_dict())
        block = network.text.transformer.resblocks[0]
        weights = CLIPWeights.from_tensors(
            encoder.source,
            text,
            vision,
            None if network.vision is None else network.logit_scale.detach(),
            block.attn.heads,
            network.vision.transformer.resblocks[0].attn.heads if vision else None,
            activation_of(block),
        )
        return cls(weights, tokenizer, list(encoder.languages))


def unfit_clip(encoder: "Encoder", lang: Optional[str]) -> Optional[str]:
    """Why a network is no plain CLIP, in words; None: it is one."""
    if encoder.family != "clip":
        return f"it is a network of the family '{encoder.family}' and no CLIP"
    network = encoder.network
    if network.adapter is not None:
        return f"its text tower has adapters ({network.adapter.name}), for which a stock CLIP has no place"
    if isinstance(network.vision, FeatureHead):
        return "its image side is a head on given image features, which a stock CLIP has not"
    return unfit_tokenizer(encoder.tokenizer, lang)
