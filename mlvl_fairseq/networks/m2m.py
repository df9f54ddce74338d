"""M2M (Pasi 2026): linear layers take the sentence vector of a frozen multilingual text encoder into the text space of
a frozen model of pictures and English texts, whose pictures they then find."""

from dataclasses import dataclass, field
from typing import Any, Dict

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights
from mlvl_fairseq.modules.sentence_map import SentenceMap, Unchanged
from mlvl_fairseq.networks.base import register_network
from mlvl_fairseq.networks.trikd import FrozenEncoderOptions, TrikdNetwork
from mlvl_fairseq.options import choice

Sentence = choice("Sentence", "mean", "last")


@dataclass
class M2mOptions(FrozenEncoderOptions):
    """The space is the teacher's, the width the text encoder's."""

    linear_layers: int = field(default=2, metadata={"help": "linear layers, with nothing between them"})
    sentence: Sentence = field(
        default=Sentence.mean,
        metadata={
            "help": "a sentence's vector: mean, of the states of its tokens, as sentence encoders such as E5 are "
            "trained; last, the state of </s>"
        },
    )


ARCHITECTURES: Dict[str, Dict[str, Any]] = {"m2m_base": {}}


@register_network("m2m")
class M2mNetwork(TrikdNetwork):
    """TriKD's wiring with other projectors: :class:`SentenceMap` behind the text encoder, none behind the teacher.

    Attributes:
        fixed_teacher_space: nothing trains behind the teacher; what ``--criterion m2m`` needs.
    """

    fixed_teacher_space = True

    @classmethod
    def of_encoders(cls, options, clip_dim: int, mte: XlmrWeights, runs: bool, vision=None) -> "M2mNetwork":
        """See :class:`TrikdNetwork`; options: :class:`M2mOptions`."""
        layers = SentenceMap(mte.config.width, clip_dim, options.linear_layers, str(options.sentence))
        encoder, transform = mte.encoder() if runs else None, str(options.transform)
        return cls(layers, Unchanged(clip_dim), encoder, vision, options.frozen_dropout, transform=transform)
