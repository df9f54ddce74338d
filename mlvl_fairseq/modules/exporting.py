"""Graphs that are recorded for other programs."""

import torch


def is_exported() -> bool:
    """Whether a graph is recorded for other programs: nothing in it may depend on the numbers of the batch at hand."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
