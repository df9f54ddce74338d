"""Package mlvl_fairseq. ``bash scripts/quickstart.sh`` and ``bash scripts/test.sh`` install it with pinned versions.

fairseq-fixed and openai-clip build against the torch and setuptools that are installed already, so that a plain
``pip install`` needs both first and ``--no-build-isolation``, as `scripts/setup.sh` does it.
"""

import json
import re
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "mlvl_fairseq" / "version.py").read_text(encoding="utf-8"))[1]
EXTRAS = json.loads((ROOT / "mlvl_fairseq" / "extras.json").read_text(encoding="utf-8"))
COMMANDS = (
    "analyse cll convert doctor encode evaluate export fuse list options path picture-world prepare quickstart report "
    "search sentencepiece"
).split()

setup(
    name="mlvl_fairseq",
    version=VERSION,
    description="Multilingual vision-language learning on fairseq",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    # Hydra looks for plugins in the namespace hydra_plugins
    packages=find_packages(include=["mlvl_fairseq", "mlvl_fairseq.*"])
    + find_namespace_packages(include=["hydra_plugins"]),
    package_data={
        "": ["*.yaml", "*.json"],
        "mlvl_fairseq.configs": ["*/*.yaml"],
        "mlvl_fairseq.data.classification": ["lists/*.json"],
        "mlvl_fairseq.search.serving": ["page/*"],
    },
    python_requires=">=3.11,<3.13",
    install_requires=[
        "fairseq-fixed==0.12.3.1",
        "ftfy>=6.0",
        "matplotlib>=3.7",
        "msgspec>=0.19",
        "numpy>=1.26",
        "openai-clip>=1.0.1",
        "packaging>=21",
        "pillow>=9.4",
        "pyyaml>=6.0",
        "regex>=2022.1.18",
        "sacrebleu>=2.3",
        "safetensors>=0.4",
        "scikit-learn>=1.3",
        "sentencepiece>=0.1.99",
        "tokenizers>=0.15",
        "torch>=2.6",  # older ones cannot load checkpoints safely (CVE-2025-32434)
        "torchvision>=0.21",
        "tqdm>=4.66",
    ],
    extras_require={name: extra["packages"] for name, extra in EXTRAS.items()},
    entry_points={
        "console_scripts": [f"mlvl-{name} = mlvl_fairseq.cli.{name.replace('-', '_')}:cli_main" for name in COMMANDS]
    },
)
