"""mCLIP's multilingual text encoder (MTE, Chen et al. 2023), an XLM-R that learns to translate, as a fairseq model."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Optional

from fairseq.data import Dictionary
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import FairseqEncoderDecoderModel, register_model
from omegaconf import II
from torch import Tensor, nn

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, read_xlmr
from mlvl_fairseq.checkpoints.mte import FINGERPRINT, read_mte
from mlvl_fairseq.checkpoints.source import fingerprint
from mlvl_fairseq.data.text.sentencepiece import DICTIONARY_FILE, load_xlmr_dictionary
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models._frozen import LeavesOutFrozen
from mlvl_fairseq.modules.chunking import in_chunks
from mlvl_fairseq.modules.mte import MteDecoder, MteEncoder, mean_pool, sum_by_sentence
from mlvl_fairseq.modules.towers.xlmr import BOS, PAD, XlmrConfig, XlmrEncoder

TokenLosses = Callable[[Tensor, Tensor], Dict[str, Tensor]]


@dataclass
class MteConfig(FairseqDataclass):
    """Dimensions default to XLM-R base; ``--arch`` sets them all at once."""

    xlmr: Optional[str] = field(
        default=None,
        metadata={"help": "the encoder to start from: folder or model.pt of fairseq's XLM-R, or a file of this plugin"},
    )
    encoder_from_scratch: bool = field(
        default=False, metadata={"help": "instead of --xlmr: start from random weights (with --train-encoder all)"}
    )
    init_from: Optional[str] = field(
        default=None,
        metadata={"help": "start from all weights of this checkpoint: stage 2 from checkpoint_best.pt of stage 1"},
    )
    train_encoder: ChoiceEnum(["none", "layers", "all"]) = field(
        default="none",
        metadata={
            "help": "what of the encoder trains: none, all of it is frozen (stage 1); layers, all but its embeddings, "
            "their norm and positions (stage 2); all, for encoders from scratch"
        },
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
    encode_chunk: int = field(
        default=0,
        metadata={
            "help": "take so many sentence pairs of a batch through the model at a time; 0: all at once. An update "
            "then needs the memory of so many pairs, logits included, with the same gradients, and one more forward "
            "pass: this is how the contrastive loss gets many negatives"
        },
    )
    max_source_positions: int = II("task.max_source_positions")
    max_target_positions: int = II("task.max_target_positions")


@register_model("mte", dataclass=MteConfig)
class MteModel(LeavesOutFrozen, FairseqEncoderDecoderModel):
    """XLM-R encoder, language projections, and a decoder between XLM-R's own embeddings.

    Attributes:
        encoder: :class:`MteEncoder`. decoder: :class:`MteDecoder`.
        frozen_dropout: whether dropout of a frozen encoder works in training. encode_chunk: pairs at a time, 0: all.
    """

    needs_of_task = ("source_dictionary", "languages", "language_id")

    def __init__(self, encoder: MteEncoder, decoder: MteDecoder, frozen_dropout: bool = False, encode_chunk: int = 0):
        super().__init__(encoder, decoder)
        self.frozen_dropout, self.encode_chunk = frozen_dropout, encode_chunk

    @classmethod
    def build_model(cls, cfg: MteConfig, task) -> "MteModel":
        """Build for task ``mte_pretraining``, which tells the dictionary and the languages to translate into.

        Raises:
            UserError: options that do not fit together, or files that do not fit them.
        """
        if cfg.encode_chunk < 0:
            raise UserError(f"--encode-chunk {cfg.encode_chunk} is no number of sentence pairs; 0 takes all at once")
        xlmr = build_encoder(cfg, task.source_dictionary)
        decoder = MteDecoder(
            xlmr.embed_tokens,
            cfg.decoder_layers,
            cfg.decoder_ffn_embed_dim,
            cfg.decoder_attention_heads,
            cfg.dropout,
            cfg.attention_dropout,
            cfg.activation_dropout,
            cfg.max_target_positions,
        )
        model = cls(MteEncoder(xlmr, len(task.languages)), decoder, cfg.frozen_dropout, cfg.encode_chunk)
        model.freeze(str(cfg.train_encoder), leave_out=bool(cfg.xlmr))
        if cfg.init_from:
            model.start_from(cfg.init_from, task.languages)
        return model

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor],
        prev_output_tokens: Tensor,
        target_lang: int,
        target: Optional[Tensor] = None,
        token_losses: Optional[TokenLosses] = None,
        sentences: str = "",
    ):
        """Translate; or, with `token_losses`, compute what a loss needs of each sentence pair, in chunks of pairs.

        Args:
            src_tokens: [B, S]. prev_output_tokens: [B, T]. target: [B, T] ids, padded on either side.
            target_lang: id of the language to translate into.
            token_losses: function of logits [N, V] and targets [N] of the N tokens that are no padding -> tensors [N]
                by name.
            sentences: also give vectors of both sentences: ``encoder``, the mean states of the encoder; ``projected``,
                those of the source after the projection, as published; empty: none.

        Returns:
            logits [B, T, V] and fairseq's extras; with `token_losses` the sums [B] over each sentence of what it gives,
            and with `sentences` ``source`` and ``target``, [B, width] each.
        """
        if token_losses is None:
            return self.decoder(prev_output_tokens, self.encoder(src_tokens, src_lengths, target_lang))

        def pairs(src_tokens: Tensor, prev_output_tokens: Tensor, target: Tensor) -> Dict[str, Tensor]:
            states = self.encoder.xlmr(src_tokens)
            projected = self.encoder.projection(states, target_lang)
            memory, counts = self.encoder.for_decoder(src_tokens, projected), target.ne(PAD)
            features, _ = self.decoder(prev_output_tokens, memory, features_only=True)
            tokens = token_losses(self.decoder.output_layer(features[counts]), target[counts])
            rows = {name: sum_by_sentence(values, counts) for name, values in tokens.items()}
            if sentences:
                pooled = projected if sentences == "projected" else states
                rows["source"] = mean_pool(pooled, src_tokens.ne(PAD))
                rows["target"] = self.sentence_vectors(target)
            return rows

        return in_chunks(pairs, (src_tokens, prev_output_tokens, target), self.encode_chunk)

    def sentence_vectors(self, sentences: Tensor) -> Tensor:
        """Mean states [B, width] of sentences [B, T] that lack ``<s>``; it is put before them."""
        tokens = nn.functional.pad(sentences, (1, 0), value=BOS)[:, : self.encoder.max_positions()]
        return mean_pool(self.encoder.xlmr(tokens), tokens.ne(PAD))

    # What is frozen and what is saved.
    def freeze(self, train_encoder: str, leave_out: bool) -> None:
        """Freeze what ``--train-encoder`` does not name; with `leave_out`, keep it out of checkpoints, too."""
        xlmr = self.encoder.xlmr
        embeddings = [xlmr.embed_tokens, xlmr.embed_positions, xlmr.layernorm_embedding]
        for module in {"none": [xlmr], "layers": embeddings, "all": []}[train_encoder]:
            module.requires_grad_(False)
        frozen = {name: value.data for name, value in self.named_parameters() if not value.requires_grad}
        if frozen and leave_out:
            every = self.named_parameters(remove_duplicate=False)  # the decoder's names of the embeddings, too
            names = [name for name, value in every if not value.requires_grad]
            self.leave_out("frozen", names, fingerprint(frozen), "--xlmr holds, or with another --train-encoder")

    def train(self, mode: bool = True) -> "MteModel":
        super().train(mode)
        encoder = self.encoder.xlmr
        if not self.frozen_dropout and not any(value.requires_grad for value in encoder.parameters()):
            encoder.eval()
        return self

    def upgrade_state_dict_named(self, state: Dict[str, Tensor], name: str) -> None:
        """Fill in frozen tensors. Raises UserError: the checkpoint was trained on others."""
        prefix = f"{name}." if name else ""
        if not self.left_out and prefix + "frozen_fingerprint" in state:
            raise UserError("the checkpoint leaves out frozen weights: say with --xlmr where they are")
        self.fill_in(state, prefix)
        super().upgrade_state_dict_named(state, name)

    def start_from(self, path, languages) -> None:
        """Copy all weights of a checkpoint; what it left out has to be what this model has from ``--xlmr``.

        Raises:
            UserError: other languages, other dimensions, or other frozen weights.
            DataError: it is no such checkpoint.
        """
        every = nn.Module.state_dict(self)
        own = {name: tensor for name, tensor in every.items() if name != FINGERPRINT}
        nn.Module.load_state_dict(self, {**every, **read_mte(path, languages).complete(own, self.frozen_names)})


def build_encoder(cfg: MteConfig, dictionary: Dictionary) -> XlmrEncoder:
    """The encoder that the options ask for: the one of ``--xlmr``, or a random one.

    Raises:
        UserError: neither or both are asked for, or the file's dimensions or dictionary are not those of model or data.
    """
    config = XlmrConfig(
        len(dictionary),
        cfg.encoder_layers,
        cfg.encoder_embed_dim,
        cfg.encoder_ffn_embed_dim,
        cfg.encoder_attention_heads,
        cfg.max_source_positions,
        cfg.dropout,
        cfg.attention_dropout,
        cfg.activation_dropout,
    )
    if bool(cfg.xlmr) == cfg.encoder_from_scratch:
        raise UserError("say with --xlmr which XLM-R the encoder starts from, or else --encoder-from-scratch")
    if cfg.encoder_from_scratch:
        return XlmrEncoder(config)
    if not Path(cfg.xlmr).exists():
        moved = "--model-overrides \"{'xlmr': 'DIR'}\""
        raise UserError(f"--xlmr {cfg.xlmr} is not there (if a trained model's was moved, say where to: {moved})")
    weights = read_xlmr(cfg.xlmr)
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
