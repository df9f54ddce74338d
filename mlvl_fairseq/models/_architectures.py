"""Named dimensions of models."""

from typing import Any, Callable, Dict

from fairseq.models import register_model_architecture

from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS, TEXT_TOWERS, known
from mlvl_fairseq.networks.dual_encoder import dimension_names

Dimensions = Dict[str, Any]


def dimensions_that_fit(dimensions: Dimensions, given: Any) -> Dimensions:
    """Those of an architecture that the towers have which `given` options name in place of the architecture's own, so
    that ``--arch cclm_nano --image-tower feature_grid`` sets nothing that given features do not have."""
    absent = set()
    for side, towers in (("image", IMAGE_TOWERS), ("text", TEXT_TOWERS)):
        kind = towers.get(str(getattr(given, f"{side}_tower", None)))
        if kind is not None:
            every = {option for tower in known(towers) for option in dimension_names(side, towers[tower])}
            absent |= every - dimension_names(side, kind).keys()
    return {option: value for option, value in dimensions.items() if option not in absent}


def all_of_them(dimensions: Dimensions, given: Any) -> Dimensions:
    return dimensions


def register_architectures(
    model: str,
    architectures: Dict[str, Dimensions],
    fitting: Callable[[Dimensions, Any], Dimensions] = all_of_them,
) -> None:
    """Make ``--arch NAME`` set options of `model`, where the command line does not say otherwise.

    Args:
        fitting: function of an architecture's dimensions and the given options -> those that go with these.
    """
    for name, dimensions in architectures.items():
        _register(model, name, dimensions, fitting)


def _register(model: str, name: str, dimensions: Dimensions, fitting: Callable[[Dimensions, Any], Dimensions]) -> None:
    @register_model_architecture(model, name)
    def set_dimensions(args):
        for key, value in fitting(dimensions, args).items():
            if not hasattr(args, key):
                setattr(args, key, value)
