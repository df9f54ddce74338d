"""Named dimensions of models."""

from typing import Any, Dict

from fairseq.models import register_model_architecture


def register_architectures(model: str, architectures: Dict[str, Dict[str, Any]]) -> None:
    """Make ``--arch NAME`` set options of `model`, where the command line does not say otherwise."""
    for name, dimensions in architectures.items():
        _register(model, name, dimensions)


def _register(model: str, name: str, dimensions: Dict[str, Any]) -> None:
    @register_model_architecture(model, name)
    def set_dimensions(args):
        for key, value in dimensions.items():
            if not hasattr(args, key):
                setattr(args, key, value)
