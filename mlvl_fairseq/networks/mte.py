"""mCLIP's multilingual text encoder (MTE, Chen et al. 2023): an XLM-R that learns to translate."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np
import torch
from fairseq.data import Dictionary
from torch import Tensor, nn

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, read_xlmr
from mlvl_fairseq.checkpoints.source import WeightFormat, WeightSource
from mlvl_fairseq.data.text.sentencepiece import DICTIONARY_FILE, SentencePieceTokenizer, load_xlmr_dictionary
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.chunking import in_chunks
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.modules.towers.xlmr import BOS, PAD, XlmrConfig, XlmrEncoder
from mlvl_fairseq.modules.translation import MteDecoder, MteEncoder, mean_pool, sum_by_sentence
from mlvl_fairseq.networks.base import Encoded, Network, Restored, register_network
from mlvl_fairseq.options import choice

TokenLosses = Callable[[Tensor, Tensor], Dict[str, Tensor]]
TrainEncoder = choice("TrainEncoder", "none", "layers", "all")
FREEZING = {
    "none": (r"-^encoder\.xlmr\.",),
    "layers": (r"-^encoder\.xlmr\.(embed_tokens|embed_positions|layernorm_embedding)\.",),
    "all": (),
}


@dataclass
class MteOptions:
    """Dimensions default to XLM-R base; ``--arch`` sets them all at once."""

    xlmr: Optional[str] = field(
        default=None,
        metadata={"help": "the encoder to start from: folder or model.pt of fairseq's XLM-R, or a file of this plugin"},
    )
    encoder_from_scratch: bool = field(
        default=False, metadata={"help": "instead of --xlmr: start from random weights (with --train-encoder all)"}
    )
    frozen_dropout: bool = field(
        default=False,
        metadata={"help": "let dropout work in the frozen encoder while training, as published; by default off"},
    )
    encoder_layers: int = field(default=12, metadata={"help": "layers of the encoder"})
    encoder_embed_dim: int = field(default=768, metadata={"help": "width of encoder and decoder"})
    encoder_ffn_embed_dim: int = field(default=3072, metadata={"help": "inner width of the encoder's layers"})
    encoder_attention_heads: int = field(default=12, metadata={"help": "attention heads of the encoder"})
    decoder_layers: int = field(default=12, metadata={"help": "layers of the decoder"})
    decoder_ffn_embed_dim: int = field(default=3072, metadata={"help": "inner width of the decoder's layers"})
    decoder_attention_heads: int = field(default=12, metadata={"help": "attention heads of the decoder"})
    dropout: float = field(default=0.1, metadata={"help": "dropout in encoder and decoder"})
    attention_dropout: float = field(default=0.1, metadata={"help": "dropout of attention in encoder and decoder"})
    activation_dropout: float = field(default=0.0, metadata={"help": "dropout inside the layers' inner width"})


ARCHITECTURES: Dict[str, Dict[str, Any]] = {
    "mte_base": {},
    "mte_large": {  # the decoder is that of SixT+ (Chen et al. 2022), which mCLIP's follows
        "encoder_layers": 24,
        "encoder_embed_dim": 1024,
        "encoder_ffn_embed_dim": 4096,
        "encoder_attention_heads": 16,
        "decoder_ffn_embed_dim": 3072,
        "decoder_attention_heads": 16,
    },
    "mte_tiny": {
        "encoder_layers": 3,
        "encoder_embed_dim": 128,
        "encoder_ffn_embed_dim": 512,
        "encoder_attention_heads": 4,
        "decoder_layers": 2,
        "decoder_ffn_embed_dim": 512,
        "decoder_attention_heads": 4,
    },
}


@register_network("mte")
class MteNetwork(Network):
    """XLM-R encoder, language projections, and a decoder between XLM-R's own embeddings.

    Attributes:
        encoder: :class:`MteEncoder`. decoder: :class:`MteDecoder`; None: the network only encodes.
        frozen_dropout: whether dropout of a frozen encoder works in training.
    """

    frozen_files = {
        "xlmr": "of an MTE: the XLM-R it was trained from",
        "sentencepiece": "of a TriKD or an MTE: XLM-R's folder",
    }
    freezing_presets = FREEZING

    def __init__(self, encoder: MteEncoder, decoder: Optional[MteDecoder], frozen_dropout: bool = False):
        super().__init__()
        self.encoder, self.decoder, self.frozen_dropout = encoder, decoder, frozen_dropout

    @staticmethod
    def parts_of_options(options, xlmr: XlmrEncoder, languages: int, longest: int):
        """``encoder`` and ``decoder`` of the class.

        Args:
            options: :class:`MteOptions`, or anything with its fields. xlmr: see :func:`build_encoder`.
            languages: number of languages to translate into. longest: tokens of a target.
        """
        decoder = MteDecoder(
            xlmr.embed_tokens,
            options.decoder_layers,
            options.decoder_ffn_embed_dim,
            options.decoder_attention_heads,
            options.dropout,
            options.attention_dropout,
            options.activation_dropout,
            longest,
        )
        return MteEncoder(xlmr, languages), decoder

    @classmethod
    def restore(cls, file: WeightFormat, source: WeightSource, xlmr=None, sentencepiece=None) -> Restored:
        """See :class:`Network`: a text encoder, whose tokenizer is beside its file or in the `sentencepiece` folder."""
        folder = sentencepiece or (source.path if source.path.is_dir() else source.path.parent)
        if not (Path(folder) / DICTIONARY_FILE).exists():
            raise UserError(f"{source.path} has no {DICTIONARY_FILE} beside it: give XLM-R's folder, --sentencepiece")
        weights, tokenizer = file.read(source, xlmr), SentencePieceTokenizer(folder)
        weights.require_vocabulary(len(tokenizer))
        network = cls(MteEncoder(weights.encoder(), 0), None)
        return Restored(network.eval(), tokenizer, weights.fingerprint)

    @property
    def embed_dim(self) -> int:
        return self.encoder.xlmr.config.width

    @property
    def max_length(self) -> int:
        return self.encoder.max_positions()

    def train(self, mode: bool = True) -> "MteNetwork":
        super().train(mode)
        encoder = self.encoder.xlmr
        if not self.frozen_dropout and not any(value.requires_grad for value in encoder.parameters()):
            encoder.eval()
        return self

    def encode_text(
        self, tokens: Tensor, eos_positions: Tensor, lang: Optional[str] = None, lengths: Lengths = None
    ) -> Encoded:
        """See :class:`Network`: mean states (Chen et al. 2023, the vectors of the contrastive loss)."""
        states, mask = self.encoder.xlmr(tokens, lengths), tokens.ne(PAD)
        return Encoded(mean_pool(states, mask), states, mask)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor],
        prev_output_tokens: Tensor,
        target_lang: int,
        target: Optional[Tensor] = None,
        token_losses: Optional[TokenLosses] = None,
        sentences: str = "",
        real: Optional[np.ndarray] = None,
        lengths: Lengths = None,
    ):
        """Translate; or, with `token_losses`, compute what a loss needs of each sentence pair, in chunks of pairs.

        Args:
            src_tokens: [B, S]. prev_output_tokens: [B, T]. target: [B, T] ids, padded on either side.
            target_lang: id of the language to translate into.
            token_losses: function of logits [N, V] and targets [N] of the N tokens that are no padding -> tensors [N]
                by name.
            sentences: also give vectors of both sentences: ``encoder``, the mean states of the encoder; ``projected``,
                those of the source after the projection, as published; empty: none.
            real: bool [B, T], which tokens of `target` are no padding; None: it is looked up, for which Python waits
                for the device.
            lengths: int64 [B], tokens of each source, see :meth:`encode_text`.

        Returns:
            logits [B, T, V] and fairseq's extras; with `token_losses` the sums [B] over each sentence of what it gives,
            and with `sentences` ``source`` and ``target``, [B, width] each.
        """
        if token_losses is None:
            return self.decoder(prev_output_tokens, self.encoder(src_tokens, src_lengths, target_lang))

        real = target.ne(PAD).cpu().numpy() if real is None else real

        def pairs(src_tokens: Tensor, prev_output_tokens: Tensor, target: Tensor, real, lengths) -> Dict[str, Tensor]:
            states = self.encoder.xlmr(src_tokens, lengths)
            projected = self.encoder.projection(states, target_lang)
            memory = self.encoder.for_decoder(src_tokens, projected)
            places = torch.from_numpy(np.flatnonzero(real)).to(target.device, non_blocking=True)
            features, _ = self.decoder(prev_output_tokens, memory, features_only=True)
            logits = self.decoder.output_layer(features.flatten(0, 1)[places])
            tokens = token_losses(logits, target.flatten()[places])
            rows = {name: sum_by_sentence(values, places, target.shape) for name, values in tokens.items()}
            if sentences:
                pooled = projected if sentences == "projected" else states
                rows["source"] = mean_pool(pooled, src_tokens.ne(PAD))
                rows["target"] = self.sentence_vectors(target, real)
            return rows

        return in_chunks(pairs, (src_tokens, prev_output_tokens, target, real, lengths), self.encode_chunk)

    def sentence_vectors(self, sentences: Tensor, real: np.ndarray) -> Tensor:
        """Mean states [B, width] of sentences [B, T] that lack ``<s>``; it is put before them. `real`: bool [B, T],
        False at padding."""
        tokens = nn.functional.pad(sentences, (1, 0), value=BOS)[:, : self.max_length]
        lengths = 1 + real[:, : self.max_length - 1].sum(1)
        return self.encode_text(tokens, tokens.new_zeros(len(tokens)), lengths=lengths).vector


def build_encoder(options, dictionary: Dictionary, longest: int) -> XlmrEncoder:
    """The encoder that the options ask for: the one of ``--xlmr``, or a random one.

    Args:
        options: :class:`MteOptions`, or anything with its fields. dictionary: of the data. longest: tokens of a source.

    Raises:
        UserError: neither or both are asked for, or the file's dimensions or dictionary are not those of model or data.
    """
    config = XlmrConfig(
        len(dictionary),
        options.encoder_layers,
        options.encoder_embed_dim,
        options.encoder_ffn_embed_dim,
        options.encoder_attention_heads,
        longest,
        options.dropout,
        options.attention_dropout,
        options.activation_dropout,
    )
    if bool(options.xlmr) == options.encoder_from_scratch:
        raise UserError("say with --xlmr which XLM-R the encoder starts from, or else --encoder-from-scratch")
    if options.encoder_from_scratch:
        return config.build()
    if not Path(options.xlmr).exists():
        moved = "--model-overrides \"{'xlmr': 'DIR'}\""
        raise UserError(f"--xlmr {options.xlmr} is not there (if a trained model's was moved, say where to: {moved})")
    weights = read_xlmr(options.xlmr)
    check_dictionary(weights, dictionary)
    config = dataclasses.replace(config, max_positions=weights.config.max_positions)
    for name in ("layers", "width", "ffn_width", "heads"):
        own, given = getattr(config, name), getattr(weights.config, name)
        if own != given:
            raise UserError(f"{weights.source}: {name} is {given}, not {own}: choose another --arch")
    return dataclasses.replace(weights, config=config).encoder()


def check_dictionary(weights: XlmrWeights, dictionary: Dictionary) -> None:
    """Raises UserError: the data were binarized with another dictionary than the encoder's."""
    path = Path(weights.source).with_name(DICTIONARY_FILE)
    size = weights.config.vocab_size
    if size != len(dictionary) or (path.exists() and load_xlmr_dictionary(path).symbols != dictionary.symbols):
        raise UserError(
            f"{weights.source} has another dictionary, of {size} entries, than the data's, of {len(dictionary)}: run "
            f"fairseq-preprocess with --srcdict and --tgtdict {path}"
        )
