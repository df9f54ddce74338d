"""Model ``mte`` of fairseq: options, what is frozen and what is saved. The network:
:mod:`mlvl_fairseq.networks.mte`."""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.models import FairseqEncoderDecoderModel, register_model
from omegaconf import II
from torch import nn

from mlvl_fairseq.checkpoints.formats.mte import FINGERPRINT, read_mte
from mlvl_fairseq.checkpoints.source import fingerprint
from mlvl_fairseq.data.text.dictionaries import symbols_fingerprint
from mlvl_fairseq.models._architectures import register_architectures
from mlvl_fairseq.models._autocast import InAutocast
from mlvl_fairseq.models._base import LeavesOutFrozen
from mlvl_fairseq.models._fit import for_tasks_that_fit
from mlvl_fairseq.modules.chunking import ChunkOptions
from mlvl_fairseq.modules.compiling import ComputingOptions
from mlvl_fairseq.modules.translation import MteDecoder, MteEncoder
from mlvl_fairseq.networks import mte as network
from mlvl_fairseq.networks.freezing import freeze, freezing_options
from mlvl_fairseq.options import weights_option, with_options


@dataclass
class MteTrainingOptions(FairseqDataclass):
    init_from: Optional[str] = weights_option(
        "start from all weights of this checkpoint: stage 2 from checkpoint_best.pt of stage 1"
    )
    train_encoder: network.TrainEncoder = field(
        default=network.TrainEncoder.none,
        metadata={
            "help": "what of the encoder trains: none, all of it is frozen (stage 1); layers, all but its embeddings, "
            "their norm and positions (stage 2); all, for encoders from scratch"
        },
    )
    max_source_positions: int = II("task.max_source_positions")
    max_target_positions: int = II("task.max_target_positions")


MteConfig = with_options(
    MteTrainingOptions,
    [network.MteOptions, ChunkOptions, ComputingOptions, freezing_options(network.FREEZING, "--train-encoder")],
)


@register_model("mte", dataclass=MteConfig)
class MteModel(InAutocast, LeavesOutFrozen, network.MteNetwork, FairseqEncoderDecoderModel):
    needs_of_task = {"languages": "list of languages", "language_id": "languages to translate into"}
    origin_option = "--xlmr"

    def __init__(self, encoder: MteEncoder, decoder: MteDecoder, frozen_dropout: bool = False):
        FairseqEncoderDecoderModel.__init__(self, encoder, decoder)
        self.frozen_dropout = frozen_dropout

    @classmethod
    @for_tasks_that_fit
    def build_model(cls, cfg: MteConfig, task) -> "MteModel":
        """Build for task ``mte_pretraining``, which tells the dictionary and the languages to translate into.

        Raises:
            UserError: options that do not fit together, or files that do not fit them.
        """
        chunk = ChunkOptions.checked(cfg)
        xlmr = network.build_encoder(cfg, task.source_dictionary, cfg.max_source_positions)
        parts = cls.parts_of_options(cfg, xlmr, len(task.languages), cfg.max_target_positions)
        model = cls(*parts, cfg.frozen_dropout)
        model.encode_chunk = chunk
        model.freeze(cfg)
        if cfg.init_from:
            model.start_from(cfg.init_from, task.languages, symbols_fingerprint(task.source_dictionary.symbols))
        return model

    def freeze(self, cfg: MteConfig) -> None:
        """Freeze what ``--trainable`` or ``--train-encoder`` says; with ``--xlmr`` keep it out of checkpoints, too."""
        kind, presets = str(cfg.train_encoder), self.freezing_presets
        if not freeze(self, cfg.trainable, presets[kind], f"--train-encoder {kind}", presets) or not cfg.xlmr:
            return
        frozen = {name: value.data for name, value in self.named_parameters() if not value.requires_grad}
        every = self.named_parameters(remove_duplicate=False)  # the decoder's names of the embeddings, too
        names = [name for name, value in every if not value.requires_grad]
        self.leave_out("frozen", names, fingerprint(frozen), "--xlmr holds, or with another --train-encoder")

    def start_from(self, path, languages, dictionary: str) -> None:
        """Copy all weights of a checkpoint; what it left out has to be what this model has from ``--xlmr``.

        Raises:
            UserError: other languages, another dictionary, other dimensions, or other frozen weights.
            DataError: it is no such checkpoint.
        """
        every = nn.Module.state_dict(self)
        own = {name: tensor for name, tensor in every.items() if name != FINGERPRINT}
        given = read_mte(path, languages, dictionary).complete(own, self.frozen_names)
        nn.Module.load_state_dict(self, {**every, **given})


register_architectures("mte", network.ARCHITECTURES)
