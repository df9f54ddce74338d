"""Networks: each family of models wired once, one file each. Training (models/) and inference both use it."""

from importlib import import_module
from pkgutil import iter_modules

from mlvl_fairseq.networks.base import NETWORKS, Encoded, Network, Restored, register_network

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["NETWORKS", "Encoded", "Network", "Restored", "register_network"]
