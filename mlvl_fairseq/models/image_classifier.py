"""Model ``image_classifier`` of fairseq. The network: :mod:`mlvl_fairseq.networks.image_classifier`."""

from dataclasses import dataclass
from typing import Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model

from mlvl_fairseq.checkpoints.towers.base import load_tower, tower_of_classifiers
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models._architectures import dimensions_that_fit, register_architectures
from mlvl_fairseq.models._autocast import InAutocast
from mlvl_fairseq.models._fit import for_tasks_that_fit
from mlvl_fairseq.modules.precision import AutocastOptions
from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS
from mlvl_fairseq.networks import image_classifier as network
from mlvl_fairseq.networks.dual_encoder import dimension_options, side_config
from mlvl_fairseq.options import weights_option, with_options


@dataclass
class ImageClassifierTrainingOptions(FairseqDataclass):
    image_weights: Optional[str] = weights_option(
        "a public file that the image tower starts from, e.g. of DeiT or DINO"
    )


ImageClassifierConfig = with_options(
    ImageClassifierTrainingOptions,
    [network.ImageClassifierOptions, dimension_options("image", IMAGE_TOWERS), AutocastOptions],
)


@register_model("image_classifier", dataclass=ImageClassifierConfig)
class ImageClassifierModel(InAutocast, network.ImageClassifierNetwork, BaseFairseqModel):
    """Its checkpoints are files for ``--image-weights``."""

    needs_of_task = {"data_set": "images with classes"}

    @classmethod
    @for_tasks_that_fit
    def build_model(cls, cfg: ImageClassifierConfig, task) -> "ImageClassifierModel":
        """Build for task ``image_classification``, which tells the classes.

        Raises:
            UserError: there is no such tower, or none of its kind is read from a classifier's file. DataError: the
                file to start from does not fit it.
        """
        config = side_config("image", IMAGE_TOWERS, cfg)
        model = cls(config.build(), len(task.classes), str(cfg.transform))
        if not tower_of_classifiers(config):
            raise UserError(f"--image-tower {cfg.image_tower}: no classifier of its kind is read as a tower again")
        if cfg.image_weights:
            load_tower(model.tower, config, cfg.image_weights)
        return model

    def max_positions(self):
        return None


register_architectures("image_classifier", network.ARCHITECTURES, dimensions_that_fit)
