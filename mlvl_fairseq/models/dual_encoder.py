"""Model ``dual_encoder`` of fairseq: options, what is frozen and what is saved. The network:
:mod:`mlvl_fairseq.networks.dual_encoder`."""

from dataclasses import dataclass
from typing import List, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.continual.learner import LanguageLearner
from mlvl_fairseq.models._architectures import dimensions_that_fit, register_architectures
from mlvl_fairseq.models._autocast import InAutocast
from mlvl_fairseq.models._base import LeavesOutFrozen
from mlvl_fairseq.models._fit import check_text, for_tasks_that_fit
from mlvl_fairseq.modules.chunking import ChunkOptions
from mlvl_fairseq.modules.compiling import ComputingOptions
from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS, TEXT_TOWERS
from mlvl_fairseq.networks import dual_encoder as network
from mlvl_fairseq.networks.dual_encoder_files import PARTS, start_from, tell_what_stays_random
from mlvl_fairseq.networks.freezing import Counts, Rule, freeze, freezing_options
from mlvl_fairseq.networks.peft import LoraOptions, PeftOptions, rules_of_preset
from mlvl_fairseq.options import weights_option, with_options

RANDOM_LAYERS = 50_000  # the number of the seed that draws layers for unlock_random


@dataclass
class DualEncoderTrainingOptions(FairseqDataclass):
    image_weights: Optional[str] = weights_option(
        "a public file that the image tower starts from, e.g. of DeiT or DINO"
    )
    text_weights: Optional[str] = weights_option(
        "a public file or folder that the text tower starts from, e.g. of BERT"
    )
    init_from: Optional[str] = weights_option("start from all weights of this checkpoint of the same model")


DualEncoderConfig = with_options(
    DualEncoderTrainingOptions,
    [
        network.DualEncoderOptions,
        network.dimension_options("image", IMAGE_TOWERS),
        network.dimension_options("text", TEXT_TOWERS),
        PeftOptions,
        LoraOptions,
        ChunkOptions,
        ComputingOptions,
        freezing_options({"preset": ()}, "--preset, whose rules the word 'preset' stands for"),
    ],
)


@register_model("dual_encoder", dataclass=DualEncoderConfig)
class DualEncoderModel(InAutocast, LeavesOutFrozen, LanguageLearner, network.DualEncoderNetwork, BaseFairseqModel):
    origin_option = "--image-weights, --text-weights or --init-from"
    needs_of_task = {
        "trains_image_tower": "captions of images",
        "image_feature_dim": "image features",
        "tokenizer": "tokenizer",
        "default_freeze": "part to freeze",
        "growth": "vocabulary that grows",
    }

    @classmethod
    @for_tasks_that_fit
    def build_model(cls, cfg: DualEncoderConfig, task) -> "DualEncoderModel":
        """Build for a task that tells the tokenizer: ``image_text_retrieval``, or ``cll_retrieval``, in which the token
        embedding trains and what ``--preset`` adds or unlocks.

        Raises:
            UserError: the options do not fit together. DataError: a file to start from does not fit them.
        """
        if network.takes_features(cfg) and cfg.image_feature_dim is None:
            cfg.image_feature_dim = task.image_feature_dim  # so that the checkpoint says it
        configs = network.TowerConfigs.of_options(cfg, len(task.source_dictionary))
        model = cls.of_options(cfg, configs)
        check_text(model.text_encoder, str(cfg.text_tower), task)
        model.token_embedding_name = f"text_encoder.{model.text_encoder.growing_embedding}"
        model.encode_chunk = ChunkOptions.checked(cfg)
        given = start_from(model, cfg, configs, task.tokenizer, task.growth)
        frozen = model.freeze(cfg, task.seed_for(RANDOM_LAYERS), bool(task.default_freeze))
        tell_what_stays_random(model, frozen, given)
        model.leave_out_frozen(given, frozen, PARTS)
        return model

    @classmethod
    def count(cls, cfg: DualEncoderConfig, vocab_size: Optional[int] = None) -> Counts:
        """How much of it trains, of so many tokens (None: as published); nothing is loaded, nothing takes memory."""
        model = without_values(cls.of_options, cfg, network.TowerConfigs.of_options(cfg, vocab_size))
        model.freeze(cfg)
        return Counts.of(model, model.added)

    def freeze(self, cfg: DualEncoderConfig, seed: int = 0, learns_languages: bool = False) -> List[str]:
        """Freeze what ``--preset`` and ``--trainable`` say. Returns names of parameters."""
        rules = rules_of_preset(self, cfg, seed)
        if learns_languages:
            only = [Rule(False, "."), Rule(True, ".", self.token_embedding_name)]
            rules = only + [rule for rule in rules if rule.trains]
        return freeze(self, cfg.trainable, rules, f"--preset {cfg.preset}", {"preset": rules}, self.added)

    def max_positions(self) -> int:
        return self.max_length


register_architectures("dual_encoder", network.ARCHITECTURES, dimensions_that_fit)
