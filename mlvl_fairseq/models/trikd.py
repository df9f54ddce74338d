"""Model ``trikd`` of fairseq: only projectors and temperature train and are saved. The network is
:mod:`mlvl_fairseq.networks.trikd`."""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model

from mlvl_fairseq.checkpoints.formats.trikd import read_trikd
from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models._architectures import register_architectures
from mlvl_fairseq.models._autocast import InAutocast
from mlvl_fairseq.models._base import LeavesOutFrozen
from mlvl_fairseq.models._fit import for_tasks_that_fit
from mlvl_fairseq.modules.chunking import ChunkOptions
from mlvl_fairseq.modules.compiling import ComputingOptions
from mlvl_fairseq.networks import trikd as network
from mlvl_fairseq.networks.clip import ACTIVATION_HELP, Activation
from mlvl_fairseq.networks.freezing import tell_trained
from mlvl_fairseq.options import weights_option, with_options


@dataclass
class TrikdTrainingOptions(FairseqDataclass):
    init_projectors_from: Optional[str] = weights_option(
        "start from the projectors and the temperature of this checkpoint, e.g. to fine-tune; its frozen "
        "encoders must be the same"
    )
    activation: Optional[Activation] = field(
        default=None, metadata={"help": f"of --clip: {ACTIVATION_HELP.removeprefix('of a CLIP ')}"}
    )
    reset_temperature: bool = field(
        default=False,
        metadata={"help": "with --init-projectors-from: let the temperature start at 0.07 again, as published"},
    )


TrikdConfig = with_options(TrikdTrainingOptions, [network.TrikdOptions, ChunkOptions, ComputingOptions])


@register_model("trikd", dataclass=TrikdConfig)
class TrikdModel(InAutocast, LeavesOutFrozen, network.TrikdNetwork, BaseFairseqModel):
    needs_of_task = {
        "image_feature_dim": "captions of images",
        "cached_states": "states of a text encoder",
        "teacher_fingerprint": "features of a CLIP",
    }

    @classmethod
    @for_tasks_that_fit
    def build_model(cls, cfg: TrikdConfig, task) -> "TrikdModel":
        """Build for task ``trikd``, which tells what is cached and whose features these are.

        Raises:
            UserError: options that do not fit together, or files that do not fit them.
        """
        check_options(cfg, task)
        mte = read_xlmr(cfg.mte)
        mte.require_vocabulary(len(task.source_dictionary))
        mte.require_positions(task.max_positions())
        teacher, images = network.Teacher.of_options(cfg), str(cfg.image_tower)
        vision = teacher.for_pictures() if images == "vit" else None
        clip_dim = task.image_feature_dim if vision is None else teacher.dim
        model = cls.of_encoders(cfg, clip_dim, mte, not task.cached_states, vision)
        model.encode_chunk = ChunkOptions.checked(cfg)
        model.leave_out_module("mte", mte.fingerprint, "--mte holds")
        clip_fingerprint = teacher.fingerprint if teacher and images != "features" else task.teacher_fingerprint
        if clip_fingerprint:
            model.leave_out_module("vision", clip_fingerprint, "--clip holds, or other teacher features", "clip")
        if cfg.init_projectors_from:
            model.start_from(cfg.init_projectors_from, cfg.reset_temperature, task.tokenizer)
        tell_trained(model)
        return model

    def max_positions(self) -> Optional[int]:
        return None if self.mte is None else self.mte.config.max_positions

    def start_from(self, path, reset_temperature: bool, tokenizer: Tokenizer) -> None:
        """Copy a checkpoint's projectors. Raises UserError: it, its frozen encoders or its tokenizer are others."""
        weights = read_trikd(path, self.family)
        state = dict(weights.tensors)
        weights.require_tokenizer(tokenizer)
        if reset_temperature:
            state["logit_scale"] = self.logit_scale.data
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"--init-projectors-from {path} does not fit this model: {reason}") from None


def check_options(cfg: TrikdConfig, task) -> None:
    """Raises UserError: options that do not go together."""
    if str(cfg.image_tower) == "vit" and not cfg.clip:
        raise UserError("--image-tower vit needs the frozen CLIP: give --clip PATH")
    if cfg.frozen_dropout and task.cached_states:
        raise UserError("--cached-states are those without dropout: leave it out, or --frozen-dropout")
    if cfg.reset_temperature and not cfg.init_projectors_from:
        raise UserError("--reset-temperature goes with --init-projectors-from: a new training starts there anyway")


register_architectures("trikd", network.ARCHITECTURES)
