"""Files of every kind that commit 53e6f82 (version 0.1.0) wrote, from ``fixtures/earlier_version.tar.xz``.

CLIP's own 49,408 tokens are left out of it: of every vocabulary that grew from CLIP's, only what comes behind them is
stored (``NAME.tail``). They are put back from the file that openai-clip comes with; nothing of this plugin takes part.
"""

import gzip
import hashlib
import importlib.util
import json
import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).with_name("fixtures") / "earlier_version.tar.xz"
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]  # CLIP writes these as they are, the others from 256 on


def unpack(folder) -> Path:
    """Write the files below `folder`, and check them against the sha256 that they had when they were written."""
    with tarfile.open(ARCHIVE) as tar:
        filters = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python before 3.11.4 has none
        tar.extractall(folder, **filters)
    root, heads = Path(folder) / "earlier_version", clip_files()
    for tail in root.glob("corpus/bin/**/*.tail"):
        whole = tail.with_suffix("")
        whole.write_bytes(heads[whole.name] + tail.read_bytes())
        tail.unlink()
    for line in (root / "vocabularies.sha256").read_text().splitlines():
        digest, name = line.split("  ", 1)
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest, name
    return root


def clip_files():
    """What vocab.json, merges.txt and dict.txt of every vocabulary that grew from CLIP's begin with."""
    package = Path(importlib.util.find_spec("clip").origin).parent
    merges = gzip.decompress((package / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode("utf-8").split("\n")
    merges = merges[1 : 49152 - 256 - 2 + 1]
    letters = [chr(number) for number in BYTES] + [chr(256 + number) for number in range(256 - len(BYTES))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {
        "vocab.json": json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)[:-1].encode(),
        "merges.txt": "".join(f"{line}\n" for line in ("#version: 0.2", *merges)).encode(),
        "dict.txt": "".join(f"{token} 1\n" for token in tokens).encode(),
    }
