"""Model ``dual_encoder`` of fairseq: options, what is frozen and what is saved. The network:
:mod:`mlvl_fairseq.networks.dual_encoder`."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model

from mlvl_fairseq.checkpoints.source import fingerprint
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models._base import LeavesOutFrozen, register_architectures
from mlvl_fairseq.models._fit import for_tasks_that_fit
from mlvl_fairseq.modules.chunking import ChunkOptions
from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS, TEXT_TOWERS, TextTower
from mlvl_fairseq.networks import dual_encoder as network
from mlvl_fairseq.networks.dual_encoder_files import PARTS, load_all, load_side
from mlvl_fairseq.networks.freezing import freeze, freezing_options
from mlvl_fairseq.networks.peft import LoraOptions, PeftOptions, rules_of_preset
from mlvl_fairseq.options import with_options

RANDOM_LAYERS = 50_000  # the number of the seed that draws layers for unlock_random


@dataclass
class DualEncoderTrainingOptions(FairseqDataclass):
    image_weights: Optional[str] = field(
        default=None, metadata={"help": "a public file that the image tower starts from, e.g. of DeiT or DINO"}
    )
    text_weights: Optional[str] = field(
        default=None, metadata={"help": "a public file or folder that the text tower starts from, e.g. of BERT"}
    )
    init_from: Optional[str] = field(
        default=None, metadata={"help": "start from all weights of this checkpoint of the same model"}
    )


DualEncoderConfig = with_options(
    DualEncoderTrainingOptions,
    [
        network.DualEncoderOptions,
        network.dimension_options("image", IMAGE_TOWERS),
        network.dimension_options("text", TEXT_TOWERS),
        PeftOptions,
        LoraOptions,
        ChunkOptions,
        freezing_options({"preset": ()}, "--preset, whose rules the word 'preset' stands for"),
    ],
)


@register_model("dual_encoder", dataclass=DualEncoderConfig)
class DualEncoderModel(LeavesOutFrozen, network.DualEncoderNetwork, BaseFairseqModel):
    needs_of_task = {
        "trains_image_tower": "captions of images",
        "image_feature_dim": "image features",
        "tokenizer": "tokenizer",
    }

    @classmethod
    @for_tasks_that_fit
    def build_model(cls, cfg: DualEncoderConfig, task) -> "DualEncoderModel":
        """Build for task ``image_text_retrieval``, which tells the tokenizer.

        Raises:
            UserError: the options do not fit together. DataError: a file to start from does not fit them.
        """
        if network.takes_features(cfg) and cfg.image_feature_dim is None:
            cfg.image_feature_dim = task.image_feature_dim  # so that the checkpoint says it
        configs = network.TowerConfigs.of_options(cfg, len(task.source_dictionary))
        model = cls.of_options(cfg, configs)
        check_text(cfg, model.text_encoder, task)
        model.encode_chunk = ChunkOptions.checked(cfg)
        given = model.start_from(cfg, configs)
        rules = rules_of_preset(model, cfg, task.seed_for(RANDOM_LAYERS))
        frozen = freeze(model, cfg.trainable, rules, f"--preset {cfg.preset}", {"preset": rules}, model.added)
        parameters = dict(model.named_parameters())
        for option, names in given.items():
            own = {name: parameters[name] for name in frozen if name in names}
            if own:
                where = f"--{option.replace('_', '-')} holds, or with another --preset or --trainable"
                model.leave_out(PARTS[option], list(own), fingerprint(own), where)
        return model

    def start_from(self, cfg: DualEncoderConfig, configs: network.TowerConfigs) -> Dict[str, List[str]]:
        """Load what options name. Returns option -> names of what came from there."""
        files = {side: getattr(cfg, f"{side}_weights") for side in self.sides}
        if not cfg.init_from:
            return {
                f"{side}_weights": load_side(self, side, getattr(configs, side), path)
                for side, path in files.items()
                if path
            }
        if any(files.values()):
            raise UserError("--init-from holds both towers: leave --image-weights and --text-weights out")
        return {"init_from": load_all(self, configs, cfg.init_from)}

    def max_positions(self) -> int:
        return self.max_length


def check_text(cfg: DualEncoderConfig, tower: TextTower, task) -> None:
    """Raises UserError: the text tower was made for other tokens than the task's, or for shorter texts."""
    if task.tokenizer.option != tower.tokenizer:
        raise UserError(
            f"--text-tower {cfg.text_tower} takes ids of a {tower.tokenizer} tokenizer, not {task.tokenizer.option}'s: "
            "give --tokenizer-folder FOLDER"
        )
    if task.max_positions() > tower.max_length:
        raise UserError(f"--max-length {task.max_positions()} is more than the text tower's {tower.max_length} tokens")


register_architectures("dual_encoder", network.ARCHITECTURES)
