"""Networks: each family of models wired once, one file each. Training (models/) and inference both use it."""

from mlvl_fairseq.networks.base import NETWORKS, Encoded, Network, Restored, register_network
from mlvl_fairseq.registry import import_modules

import_modules(__name__)

__all__ = ["NETWORKS", "Encoded", "Network", "Restored", "register_network"]
