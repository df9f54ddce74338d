"""Model ``clip`` of fairseq: options, what is frozen and what is saved. The network:
:mod:`mlvl_fairseq.networks.clip`."""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model

from mlvl_fairseq.checkpoints.clip import QUICK_GELU, read_clip_to_go_on
from mlvl_fairseq.checkpoints.source import fingerprint
from mlvl_fairseq.continual.learner import LanguageLearner, build_language_adapter
from mlvl_fairseq.models._architectures import register_architectures
from mlvl_fairseq.models._autocast import InAutocast
from mlvl_fairseq.models._base import LeavesOutFrozen
from mlvl_fairseq.models._fit import for_tasks_that_fit
from mlvl_fairseq.modules.adapters import adapter_options
from mlvl_fairseq.modules.chunking import ChunkOptions
from mlvl_fairseq.modules.compiling import ComputingOptions
from mlvl_fairseq.networks import clip as network
from mlvl_fairseq.networks.freezing import freeze, freezing_options
from mlvl_fairseq.options import weights_option, with_options


@dataclass
class ClipTrainingOptions(FairseqDataclass):
    init_from: Optional[str] = weights_option(
        "weights to start from: an official CLIP file (ViT-B-32.pt, ...), a Hugging Face folder "
        "(config.json, model.safetensors) or a checkpoint of this plugin"
    )
    freeze: Optional[str] = field(
        default=None,
        metadata={
            "help": "regular expression of parameter names to keep as they are, e.g. '^vision' or '^text\\.'; '' "
            "trains all. Default: nothing in image_text_retrieval, all of the text tower but its token embedding in "
            "cll_retrieval"
        },
    )


ClipConfig = with_options(
    ClipTrainingOptions,
    [
        network.ClipOptions,
        ChunkOptions,
        ComputingOptions,
        freezing_options(network.ClipNetwork.freezing_presets, "--freeze"),
        adapter_options(),
    ],
)


@register_model("clip", dataclass=ClipConfig)
class ClipModel(InAutocast, LeavesOutFrozen, LanguageLearner, network.ClipNetwork, BaseFairseqModel):
    needs_of_task = {
        "trains_image_tower": "captions of images",
        "image_feature_dim": "image features",
        "tokenizer": "tokenizer",
        "default_freeze": "part to freeze",
        "growth": "vocabulary that grows",
    }

    @classmethod
    @for_tasks_that_fit
    def build_model(cls, cfg: ClipConfig, task) -> "ClipModel":
        """Build for a task of this plugin: it tells the vocabulary's size and whether images are encoded here.

        Raises:
            UserError: the options do not fit together, or the weights to start from do not fit them.
        """
        feature_dim = task.image_feature_dim if task.trains_image_tower else 0
        given = cfg.activation and str(cfg.activation)
        weights = read_clip_to_go_on(cfg.init_from, task.tokenizer, given) if cfg.init_from else None
        activation = weights.text_config.activation if weights else QUICK_GELU
        config = network.ClipDimensions.of_options(
            cfg, len(task.source_dictionary), task.trains_image_tower, feature_dim, activation
        )
        vision, text = config.vision and config.vision.build(), config.text.build()
        model = cls(text, vision, build_language_adapter(cfg, text, task))
        model.encode_chunk = ChunkOptions.checked(cfg)
        if weights:
            config.check(weights)
            model.load_weights(weights, task.growth)
        grown = weights is not None and config.text.vocab_size > weights.text_config.vocab_size
        model.freeze(cfg, task.default_freeze, grown)
        return model

    def max_positions(self) -> int:
        return self.max_length

    def freeze(self, cfg: ClipConfig, default: str = "", grown: bool = False) -> None:
        """Freeze what ``--trainable`` or ``--freeze`` says; with ``--init-from`` keep it out of checkpoints, too.

        Args:
            default: pattern of what is frozen where neither is given. grown: whether ``--init-from`` lacks new rows.
        """
        pattern = default if cfg.freeze is None else cfg.freeze
        rules, presets = [f"-{pattern}"] if pattern else [], self.freezing_presets
        frozen = freeze(self, cfg.trainable, rules, f"--freeze '{pattern}'", presets)
        if frozen and cfg.init_from:
            kept = {*frozen} - ({f"{self.token_embedding_name}.weight"} if grown else set())
            own = {name: value for name, value in self.named_parameters() if name in kept}
            self.leave_out("frozen", [*own], fingerprint(own), "--init-from holds, or with another --freeze")


register_architectures("clip", network.ARCHITECTURES)
