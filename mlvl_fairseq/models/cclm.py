"""Model ``cclm`` of fairseq: options, what is frozen and what is saved. The network:
:mod:`mlvl_fairseq.networks.cclm`."""

from dataclasses import dataclass
from typing import List, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.models._architectures import dimensions_that_fit, register_architectures
from mlvl_fairseq.models._autocast import InAutocast
from mlvl_fairseq.models._base import LeavesOutFrozen
from mlvl_fairseq.models._fit import check_text, for_tasks_that_fit
from mlvl_fairseq.modules.chunking import ChunkOptions
from mlvl_fairseq.modules.compiling import ComputingOptions
from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS, TEXT_TOWERS
from mlvl_fairseq.networks.cclm import CclmNetwork
from mlvl_fairseq.networks.cclm_files import LayersOptions, check_layers
from mlvl_fairseq.networks.cclm_heads import HeadOptions
from mlvl_fairseq.networks.cclm_options import ARCHITECTURES, CclmTowerOptions, FusionOptions, take_shape, take_task
from mlvl_fairseq.networks.dual_encoder import TowerConfigs, dimension_options, takes_features
from mlvl_fairseq.networks.dual_encoder_files import PARTS, start_from, tell_what_stays_random
from mlvl_fairseq.networks.freezing import Counts, freeze, freezing_options
from mlvl_fairseq.networks.peft import LoraOptions, PeftOptions, rules_of_preset
from mlvl_fairseq.options import weights_option, with_options

RANDOM_LAYERS = 50_000  # the number of the seed that draws layers for unlock_random


@dataclass
class CclmTrainingOptions(FairseqDataclass):
    image_weights: Optional[str] = weights_option(
        "a public file that the image tower starts from, e.g. of Swin or CLIP"
    )
    text_weights: Optional[str] = weights_option(
        "a public file or folder of XLM-R that the text tower and the fusion encoder start from"
    )
    init_from: Optional[str] = weights_option("start from all weights of this checkpoint of the same model")


CclmConfig = with_options(
    CclmTrainingOptions,
    [
        CclmTowerOptions,
        dimension_options("image", IMAGE_TOWERS),
        dimension_options("text", TEXT_TOWERS),
        FusionOptions,
        HeadOptions,
        LayersOptions,
        PeftOptions,
        LoraOptions,
        ChunkOptions,
        ComputingOptions,
        freezing_options({"preset": ()}, "--preset, whose rules the word 'preset' stands for"),
    ],
)


@register_model("cclm", dataclass=CclmConfig)
class CclmModel(InAutocast, LeavesOutFrozen, CclmNetwork, BaseFairseqModel):
    origin_option = "--image-weights, --text-weights or --init-from"
    needs_of_task = {"tokenizer": "tokenizer", "stream_features_shape": "pairs of a text and a view"}

    @classmethod
    @for_tasks_that_fit
    def build_model(cls, cfg: CclmConfig, task) -> "CclmModel":
        """Build for ``cclm_pretraining``, or as a dual encoder for ``image_text_retrieval``; with the heads that a task
        asks for (:func:`take_task`).

        Raises:
            UserError: the options do not fit together. DataError: a file to start from does not fit them.
        """
        check_layers(cfg)
        if takes_features(cfg):
            take_shape(cfg, task.stream_features_shape)
        take_task(cfg, task)
        configs = TowerConfigs.of_options(cfg, len(task.source_dictionary))
        check_text(without_values(configs.text.build), str(cfg.text_tower), task)  # before it takes its memory
        model = cls.of_options(cfg, configs)
        model.encode_chunk = ChunkOptions.checked(cfg)
        given = start_from(model, cfg, configs, task.tokenizer)
        frozen = model.freeze(cfg, task.seed_for(RANDOM_LAYERS))
        tell_what_stays_random(model, frozen, given)
        model.leave_out_frozen(given, frozen, PARTS)
        return model

    @classmethod
    def count(cls, cfg: CclmConfig, vocab_size: Optional[int] = None) -> Counts:
        """How much of it trains, of so many tokens (None: as published); nothing is loaded, nothing takes memory."""
        model = without_values(cls.of_options, cfg, TowerConfigs.of_options(cfg, vocab_size))
        model.freeze(cfg)
        return Counts.of(model, model.added)

    def freeze(self, cfg: CclmConfig, seed: int = 0) -> List[str]:
        """Freeze what ``--preset`` and ``--trainable`` say. Returns names of parameters."""
        rules = rules_of_preset(self, cfg, seed)
        return freeze(self, cfg.trainable, rules, f"--preset {cfg.preset}", {"preset": rules}, self.added)

    def max_positions(self) -> int:
        return self.max_length


register_architectures("cclm", ARCHITECTURES, dimensions_that_fit)
