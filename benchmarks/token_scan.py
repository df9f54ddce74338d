"""How long counting the tokens of a language's training captions takes on binarized data (TEIR's token frequencies).

Writes captions of random ids as `fairseq-preprocess` would, and counts them with the function that mlvl-cll uses. The
counts must be those of a plain pass over the captions, one by one, which is timed, too.

    python benchmarks/token_scan.py                       # 600,000 captions, a vocabulary of 200,000
    python benchmarks/token_scan.py --captions 5000000
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
LANG = "xx"


def write_corpus(folder: Path, captions: int, vocab_size: int):
    """The vocabulary of a corpus that holds one language's binarized captions of 8 to 20 tokens, skewed like words."""
    import torch
    from fairseq.data import indexed_dataset

    from mlvl_fairseq.data.corpus import Corpus
    from mlvl_fairseq.data.corpus.vocabularies import GrownVocabulary

    folder.mkdir(parents=True)
    (folder / "corpus.json").write_text(json.dumps({"format": 1, "splits": {}}))
    corpus = Corpus(folder)
    vocabulary = GrownVocabulary(corpus, [LANG])
    prefix = vocabulary.binarized(LANG) / "train"
    prefix.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, 21, captions)
    ids = np.minimum(rng.zipf(1.3, int(lengths.sum())), vocab_size) - 1
    builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=vocab_size)
    for caption in np.split(ids.astype(np.int32), np.cumsum(lengths)[:-1]):
        builder.add_item(torch.from_numpy(caption))
    builder.finalize(f"{prefix}.idx")
    return vocabulary, prefix


def count_one_by_one(prefix: Path, vocab_size: int) -> np.ndarray:
    from mlvl_fairseq.data.corpus.binarize import open_tokens

    captions = open_tokens(prefix)
    counts = np.zeros(vocab_size, np.int64)
    for number in range(len(captions)):
        np.add.at(counts, captions[number].numpy(), 1)
    return counts


def timed(function, *arguments):
    start = time.perf_counter()
    return function(*arguments), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=600_000, help="number of captions (default: %(default)s)")
    parser.add_argument(
        "--vocab-size", type=int, default=200_000, help="entries of the vocabulary (default: %(default)s)"
    )
    parser.add_argument("--repeat", type=int, default=5, help="the median is printed (default: %(default)s)")
    args = parser.parse_args()
    from mlvl_fairseq.data.corpus.binarize import count_tokens

    with tempfile.TemporaryDirectory() as name:
        vocabulary, prefix = write_corpus(Path(name) / "corpus", args.captions, args.vocab_size)
        runs = [timed(count_tokens, vocabulary, LANG, args.vocab_size) for _ in range(args.repeat)]
        expected, slow = timed(count_one_by_one, prefix, args.vocab_size)
    counts, seconds = runs[0][0], float(np.median([run[1] for run in runs]))
    assert np.array_equal(counts, expected), "counts differ from those of a pass over the captions"
    print(
        f"{args.captions:,} captions, {counts.sum():,} tokens, {np.count_nonzero(counts):,} types: identical counts\n"
    )
    print("| | seconds | ratio |\n|---|---:|---:|")
    print(f"| count_tokens | {seconds:.3f} | 1 |")
    print(f"| caption by caption | {slow:.3f} | {slow / seconds:.0f} |")


if __name__ == "__main__":
    main()
