"""What it saves to compute the teachers' features once: a TriKD update with cached and with online teachers.

Encoders have the sizes of CLIP ViT-B/32 and XLM-R base, and random weights; projectors, criterion and optimizer are
the task's own. A step is what an epoch repeats: features that are stored are read from their files, teachers whose
features are not stored run; then projectors, both losses, backward pass and LAMB. Decoding of pictures is not counted,
which makes the online step look faster than it is. All ways take the same captions in turn; ratios are medians over
steps, in CPU time of one thread.

    python benchmarks/trikd_step.py                                                     # some minutes
    python benchmarks/trikd_step.py --arch clip_tiny_vit --width 128 --mte-layers 2 --steps 20
"""

import argparse
import os
import sys
import tempfile
import time
from argparse import Namespace
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Callable, Dict, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from clip_training import ARCHS, build_model, dimensions, random_batch  # noqa: E402

from mlvl_fairseq.criterions.trikd import TrikdCriterion, TrikdCriterionConfig  # noqa: E402
from mlvl_fairseq.data.caption_dataset import pad_states  # noqa: E402
from mlvl_fairseq.data.corpus.text_states import TokenStates, extract_token_states  # noqa: E402
from mlvl_fairseq.models.trikd import TrikdModel  # noqa: E402
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrConfig, XlmrEncoder  # noqa: E402
from mlvl_fairseq.modules.x_projector import CProjector, XProjector  # noqa: E402
from mlvl_fairseq.optim.lamb import Lamb  # noqa: E402

XLMR_VOCABULARY = 10_000  # XLM-R's is 250,002; looking a row up costs the same
CLIP, STATES = "CLIP's features", "CLIP's features, MTE states"
ENGLISH = Namespace(langs=["en"], corpus=Namespace(source_lang="en"))


class Teachers(NamedTuple):
    """The frozen towers: CLIP, and the text encoder."""

    clip: nn.Module
    mte: XlmrEncoder

    @torch.no_grad()
    def images(self, pixels: Tensor) -> Tensor:
        return self.clip.vision(pixels)

    @torch.no_grad()
    def english(self, batch: Dict) -> Tensor:
        return self.clip.text(**batch["net_input"])

    @torch.no_grad()
    def states(self, tokens: Tensor) -> Tensor:
        return self.mte(tokens)


def build_teachers(config, width: int, layers: int) -> Teachers:
    clip = build_model(config).eval().requires_grad_(False)
    sizes = {"layers": layers, "width": width, "ffn_width": 4 * width, "heads": max(1, width // 64)}
    return Teachers(clip, XlmrEncoder(XlmrConfig(XLMR_VOCABULARY, **sizes)).eval().requires_grad_(False))


class Trainee:
    """Projectors that learn; `stored` says which teachers do not run."""

    def __init__(self, teachers: Teachers, clip_dim: int, width: int, stored: str, autocast: str):
        torch.manual_seed(0)
        mte = None if stored == STATES else teachers.mte
        vision = None if stored else teachers.clip.vision
        heads = max(1, width // 64)
        x_projector = XProjector(width, 4 * width, heads, 2)
        self.model = TrikdModel(x_projector, CProjector(clip_dim, width), mte, vision).train()
        self.model.built_with = Namespace(autocast=autocast)
        self.criterion = TrikdCriterion(TrikdCriterionConfig(), ENGLISH).train()
        self.teachers, self.stored = teachers, stored
        trained = [value for value in self.model.parameters() if value.requires_grad]
        self.optimizer = Lamb(trained, 1e-3, weight_decay=0.01)

    def step(self, captions: Dict, pictures: Dict, folder: Path) -> float:
        """CPU seconds."""
        began = time.process_time()
        sample = self.sample(captions, pictures, folder)
        self.optimizer.zero_grad()
        loss, rows, _ = self.criterion(self.model, sample)
        (loss / rows).backward()
        self.optimizer.step()
        return time.process_time() - began

    def sample(self, captions: Dict, pictures: Dict, folder: Path) -> Dict:
        """A batch of task trikd: what is stored from its file, and the English side of TTC."""
        if not self.stored:
            english = self.teachers.english(pictures)
            return {**captions, "image_features": pictures["image_features"], "text_features": english}
        image, english = (torch.from_numpy(np.load(folder / f"{kind}.npy")) for kind in ("image", "english"))
        sample = {**captions, "image_features": image, "text_features": english}
        if self.stored == STATES:
            states = TokenStates(folder / "states", *stored_rows(captions))
            padded = pad_states([states[row] for row in range(len(states))], captions["net_input"]["tokens"].shape[1])
            sample["net_input"] = {**captions["net_input"], "states": padded}
        return sample


def captions_of(pictures: Dict) -> Dict:
    """The same captions for XLM-R, a batch without features."""
    ends, rows = pictures["net_input"]["eos_positions"], pictures["nsentences"]
    tokens = torch.randint(4, XLMR_VOCABULARY, pictures["net_input"]["tokens"].shape)
    tokens[:, 0] = 0
    tokens[torch.arange(rows), ends] = 2
    tokens[torch.arange(tokens.shape[1]) > ends[:, None]] = PAD
    return {
        "id": torch.arange(rows),
        "net_input": {"tokens": tokens, "eos_positions": ends},
        "image_ids": pictures["image_ids"],
        "lang_ids": torch.zeros(rows, dtype=torch.long),
        "has_english": torch.ones(rows, dtype=torch.bool),
        **{name: pictures[name] for name in ("nsentences", "ntokens")},
    }


def stored_rows(captions: Dict) -> tuple:
    """Lengths of captions, their names, and the fingerprint of what encodes them, for their states' file."""
    lengths = captions["net_input"]["eos_positions"].numpy() + 1
    return lengths, [str(row) for row in range(len(lengths))], "0" * 64


def store(teachers: Teachers, captions: Dict, pictures: Dict, folder: Path) -> None:
    """Write what the teachers make of a batch as a corpus folder keeps it."""
    np.save(folder / "image.npy", teachers.images(pictures["image_features"]).numpy())
    np.save(folder / "english.npy", teachers.english(pictures).numpy())
    tokens = captions["net_input"]["tokens"]

    def encode(rows) -> list:
        chosen = tokens[rows[0] : rows[-1] + 1]
        return [own[ids.ne(PAD)].numpy() for own, ids in zip(teachers.states(chosen), chosen)]

    lengths, names, fingerprint = stored_rows(captions)
    with redirect_stderr(StringIO()):  # a progress bar for each batch
        extract_token_states(encode, folder / "states", lengths, names, teachers.mte.config.width, "MTE", fingerprint)


def compare(teachers: Teachers, config, args: argparse.Namespace, report: Callable[[str], None]) -> None:
    ways = {name: Trainee(teachers, config.embed_dim, args.width, name, args.autocast) for name in ("", CLIP, STATES)}
    seconds = {name: [] for name in ways}
    for step in range(args.steps + 1):
        pictures = random_batch(config, args.batch_size, args.mean_tokens, seed=step)
        captions = captions_of(pictures)
        with tempfile.TemporaryDirectory() as folder:
            store(teachers, captions, pictures, Path(folder))
            for name, way in ways.items():
                spent = way.step(captions, pictures, Path(folder))
                if step:  # the first allocates
                    seconds[name].append(spent)
    online = np.array(seconds[""])
    for name, own in seconds.items():
        ratio = np.median(online / np.array(own))
        report(f"| {name or 'nothing'} | {np.median(own):.3f} | **{ratio:.1f}** |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="clip_vit_b32", choices=ARCHS, help="of CLIP (default: %(default)s)")
    parser.add_argument("--width", type=int, default=768, help="of MTE and projectors (default: %(default)s)")
    parser.add_argument("--mte-layers", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--mean-tokens", type=int, default=16, help="of a caption (default: %(default)s)")
    parser.add_argument("--autocast", default="none", choices=["none", "bf16"], help="of the model (default: none)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = dimensions(args.arch)
    sizes = f"{args.mte_layers} layers, it and the projectors {args.width} wide"
    print(f"{args.arch}; MTE of {sizes}; batch {args.batch_size}, {args.mean_tokens} tokens on average,")
    print(f"{args.steps} steps, one thread, torch {torch.__version__}\n")
    print("| stored | step, CPU s | times faster |\n|---|---:|---:|", flush=True)
    compare(build_teachers(config, args.width, args.mte_layers), config, args, print)


if __name__ == "__main__":
    main()
