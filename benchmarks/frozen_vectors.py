"""What it saves to keep the vectors of frozen towers: an epoch of a dual encoder that reads them, against one whose
towers run, and what computing them costs once.

Pictures and captions are the picture world's, towers have random weights. An epoch is batches, forward and backward
pass and AdamW; the first one, in which pictures are decoded, is not counted, which makes towers that run look faster
than they are. Ratios are of medians over epochs of the same run, in CPU time of one thread. Losses are compared.

    python benchmarks/frozen_vectors.py                                       # two minutes
    python benchmarks/frozen_vectors.py --arch lilt_small --pictures 64 --epochs 1
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Callable, List, NamedTuple, Tuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mlvl_fairseq.cli import picture_world, prepare  # noqa: E402
from mlvl_fairseq.criterions.clip_contrastive import ClipContrastiveConfig, ClipContrastiveCriterion  # noqa: E402
from mlvl_fairseq.models.dual_encoder import DualEncoderConfig  # noqa: E402
from mlvl_fairseq.networks.dual_encoder import ARCHITECTURES  # noqa: E402
from mlvl_fairseq.tasks.image_text_retrieval import ImageTextRetrievalConfig, ImageTextRetrievalTask  # noqa: E402

PRESETS = {"proj": "both", "lit": "image", "lwa_text": "image", "lwa_image": "text"}
VALID = 10


def make_corpus(folder: Path, pictures: int) -> None:
    """A corpus of English captions, and a tokenizer of letters beside it."""
    sizes = ["--train", str(pictures), "--valid", str(VALID), "--test", str(VALID), "--languages", "en,de"]
    picture_world.main([f"{folder}/world", *sizes])
    files = [f"--{split}={folder}/world/{split}.{{lang}}.json" for split in ("train", "valid")]
    files[0] = f"--train={folder}/world/train.vision-en-{{lang}}.tsv"
    prepare.main([f"{folder}/corpus", "--languages", "en,de", *files, "--image-root", f"{folder}/world/images"])
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "bert").mkdir()
    (folder / "bert" / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (folder / "bert" / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    prepare.main([f"{folder}/corpus", "--wordpiece", f"{folder}/bert"])


class Training(NamedTuple):
    """A model that learns from a split that is loaded."""

    task: ImageTextRetrievalTask
    model: torch.nn.Module
    seconds: float  # of loading, the computation of vectors included

    @classmethod
    def of(cls, folder: Path, arch: str, preset: str, cache: str) -> "Training":
        text = {"tokenizer_folder": f"{folder}/bert", "max_length": 64}
        machine = {"seed": 1, "cpu": True, "num_workers": 0}
        cfg = ImageTextRetrievalConfig(data=f"{folder}/corpus", cache_frozen=cache, **text, **machine)
        task = ImageTextRetrievalTask.setup_task(cfg)
        torch.manual_seed(0)
        options = OmegaConf.structured(DualEncoderConfig(**ARCHITECTURES[arch], preset=preset))
        options._name = "dual_encoder"
        model = task.build_model(options).train()
        began = time.process_time()
        with redirect_stderr(StringIO()):  # progress bars
            task.load_dataset("train")
        return cls(task, model, time.process_time() - began)

    def epochs(self, number: int, batch_size: int) -> Tuple[List[float], List[float]]:
        """CPU seconds of each epoch but the first, and the losses of all batches."""
        criterion, dataset = (
            ClipContrastiveCriterion(ClipContrastiveConfig(), self.task).train(),
            self.task.dataset("train"),
        )
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer, seconds, losses = torch.optim.AdamW(trained, 1e-3), [], []
        for epoch in range(number + 1):
            order, began = np.random.default_rng(epoch).permutation(len(dataset)), time.process_time()
            for start in range(0, len(order) - batch_size + 1, batch_size):
                torch.manual_seed(start)
                sample = dataset.collater([dataset[row] for row in order[start : start + batch_size]])
                optimizer.zero_grad()
                loss, rows, _ = criterion(self.model, sample)
                (loss / rows).backward()
                optimizer.step()
                losses.append(loss.item() / rows)
            seconds.append(time.process_time() - began)
        return seconds[1:], losses


def compare(folder: Path, args: argparse.Namespace, report: Callable[[str], None]) -> None:
    for preset in args.presets:
        for path in (folder / "corpus" / "features").glob("*vectors-*"):
            path.unlink()
        found = {}
        for cache in ("off", "require"):
            training = Training.of(folder, args.arch, preset, cache)
            found[cache] = *training.epochs(args.epochs, args.batch_size), training.seconds
        (slow, expected, _), (fast, losses, once) = found["off"], found["require"]
        kept = sum(path.stat().st_size for path in (folder / "corpus" / "features").glob("*vectors-*.npy"))
        apart, slow, fast = np.abs(np.subtract(losses, expected)).max(), np.median(slow), np.median(fast)
        report(
            f"| {preset} | {PRESETS.get(preset, '')} | {slow:.2f} | {fast:.3f} | **{slow / fast:.1f}** | {once:.2f} | "
            f"{kept / 2**20:.2f} | {apart:.1e} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="lilt_nano", choices=sorted(ARCHITECTURES), help="default: %(default)s")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), help="default: all that keep something")
    parser.add_argument("--pictures", type=int, default=200, help="each with two captions (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        with redirect_stderr(StringIO()):
            make_corpus(Path(name), args.pictures)
        sizes = f"{args.pictures} pictures with two captions each, batch {args.batch_size}"
        print(f"{args.arch}, {sizes}, torch {torch.__version__}\n")
        columns = ["preset", "kept", "epoch, towers run, CPU s", "epoch, kept, CPU s", "times faster"]
        print(f"| {' | '.join(columns)} | computed once in, CPU s | MiB | largest difference of losses |")
        print("|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
        compare(Path(name), args, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
