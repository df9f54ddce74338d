"""CLIP: official ones, and those trained with this plugin, adapters of languages included."""

from dataclasses import dataclass
from typing import List, Optional, Sequence

import torch

from mlvl_fairseq.checkpoints.plugin_checkpoint import PluginState, is_plugin_checkpoint, read_plugin_state
from mlvl_fairseq.checkpoints.source import WeightSource, read_clip_weights
from mlvl_fairseq.data.caption_dataset import pad_right
from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.inference.encoder import Encoder, register_kind
from mlvl_fairseq.modules.adapters import TextAdapter
from mlvl_fairseq.modules.feature_head import FeatureHead
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower


@register_kind
@dataclass
class ClipEncoder(Encoder):
    """Towers and tokenizer of a CLIP.

    Attributes:
        text: text tower.
        tokenizer: cuts captions as training did.
        adapter: what languages add to the text tower, None: nothing.
    """

    frozen = {"init_from": "of a CLIP: the weights it started from"}

    text: CLIPTextTower
    tokenizer: ClipTokenizer
    adapter: Optional[TextAdapter] = None

    @classmethod
    def detect(cls, source: WeightSource) -> bool:
        return False  # it is what is left

    @classmethod
    def read(cls, path, init_from=None) -> "ClipEncoder":
        state = read_plugin_state(path, init_from) if is_plugin_checkpoint(path) else None
        weights = state.weights if state else read_clip_weights(path)
        additions = state.vocabulary if state else None
        vocabulary = clip_vocabulary().with_additions(additions) if additions else clip_vocabulary()
        if len(vocabulary) != weights.text_config.vocab_size:
            raise DataError(
                f"has {weights.text_config.vocab_size} token embeddings for a vocabulary of {len(vocabulary)}", path
            )
        return cls(
            vision=weights.vision_tower() if weights.vision_config else None,
            head=_build_head(state),
            fingerprint=state.fingerprint if state else weights.fingerprint,
            languages=state.languages if state else [],
            source=str(path),
            text=weights.text_tower(),
            tokenizer=ClipTokenizer(vocabulary),
            adapter=state.adapter if state else None,
        )

    @property
    def embed_dim(self) -> int:
        return self.text.text_projection.shape[1]

    @property
    def max_length(self) -> int:
        return self.text.context_length

    @property
    def tokenization(self) -> str:
        return "clip-bpe"

    def tokenize(self, captions: Sequence[str]) -> List[List[int]]:
        keep, bos, eos = self.max_length - 2, self.tokenizer.bos, self.tokenizer.eos
        return [[bos, *ids[:keep], eos] for ids in self.tokenizer.encode_batch(captions)]

    def text_features(self, tokens: List[List[int]], lang: Optional[str] = None) -> torch.Tensor:
        batch, ends = (part.to(self.device) for part in pad_right(tokens, self.tokenizer.eos))
        if self.adapter is None:
            return self.text(batch, ends)
        return self.adapter(self.text, batch, ends, lang).features


def _build_head(state: Optional[PluginState]) -> Optional[FeatureHead]:
    if state is None or not state.head:
        return None
    width, input_dim = state.head["c_fc.weight"].shape
    head = FeatureHead(input_dim, width, state.head["proj.weight"].shape[0])
    head.load_state_dict(state.head)
    return head
