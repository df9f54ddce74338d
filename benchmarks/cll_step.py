"""Where the time of a continual-learning update goes, and what it costs beside the bare text tower.

Runs fairseq's own `Trainer.train_step` on the second language of a generated corpus with cached features of a teacher,
as `mlvl-cll` sets it up, and after every update the model's text features and their backward pass alone, on the same
batch: with the rows that are replayed, and with the adapter, if the method has them. Ratio and parts are medians over
updates, in CPU time of one thread, so that other work on the machine matters little.

    python benchmarks/cll_step.py                              # a B/16-sized text tower, some minutes a method
    python benchmarks/cll_step.py --layers 2 --updates 20
    python benchmarks/cll_step.py --arch clip_tiny --updates 50 --methods cll_clip der
"""

import argparse
import gc
import os
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager, redirect_stderr
from functools import reduce
from pathlib import Path
from typing import Dict, List

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
DEFAULT_METHODS = ("cll_clip", "cll_clip_with_teir", "cll_clip_with_teir_update", "er", "mla")
DATA, FORWARD, BACKWARD, LOSSES = "data", "tower forward", "tower backward", "losses"
GRADIENTS, OPTIMIZER, PLUGINS, OTHER = "gradient scaling, clipping", "optimizer", "plugins", "other"
PARTS = (DATA, FORWARD, BACKWARD, LOSSES, GRADIENTS, OPTIMIZER, PLUGINS, OTHER)
HOOKS = ("extend_batch", "losses", "after_backward", "before_step", "after_step")


class Clock:
    """CPU seconds by part; a part that begins within another pauses it."""

    def __init__(self):
        self.seconds: Dict[str, float] = defaultdict(float)
        self._running: List[str] = []
        self._since = 0.0

    def _charge(self) -> None:
        now = time.process_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str):
        self._charge()
        self._running.append(name)
        yield
        self._charge()
        self._running.pop()

    def switch(self, name: str) -> None:
        """What runs now is another part from here on."""
        self._charge()
        if self._running:
            self._running[-1] = name

    def wrap(self, owner, method: str, name: str) -> None:
        """Charge every call of ``owner.method`` to a part."""
        function = getattr(owner, method)

        def timed(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        setattr(owner, method, timed)


def write_corpus(folder: Path, captions: int, mean_words: int, embed_dim: int) -> Path:
    """A corpus of English and a generated language (its words backwards), and random teacher features."""
    from mlvl_fairseq.cli.prepare import main as prepare
    from mlvl_fairseq.data.corpus import Corpus
    from mlvl_fairseq.data.features import FeatureWriter
    from mlvl_fairseq.data.text import clip_vocabulary

    rng = np.random.default_rng(1)
    tokens = (token.removesuffix("</w>") for token in clip_vocabulary().tokens if token.endswith("</w>"))
    words = np.array([token for token in tokens if token.isascii() and token.isalpha() and len(token) > 2])
    words = rng.choice(words, 5000, replace=False)
    lengths = np.clip(rng.gamma(4.0, mean_words / 4, captions).astype(int), 2, 40)
    english = [" ".join(rng.choice(words, length)) for length in lengths]
    for lang, texts in (("en", english), ("xx", [text[::-1] for text in english])):
        rows = [f"{n % (captions // 5)}.jpg\t{english[n]}\t{text}\n" for n, text in enumerate(texts)]
        (folder / f"train.vision-en-{lang}.tsv").write_text("".join(rows), encoding="utf-8")
    corpus = folder / "corpus"
    train = f"--train={folder / 'train.vision-en-{lang}.tsv'}"
    prepare([str(corpus), "--languages=en,xx", train, "--order=en,xx"])
    features = Corpus(corpus)
    for kind, names in (("image", features.images("train")), ("text", features.english("train"))):
        with FeatureWriter(features.feature_stem("train", kind), names, embed_dim, "random", "random") as writer:
            writer.write(rng.standard_normal((len(names), embed_dim)).astype(np.float32))
    return corpus


def build_trainer(args: argparse.Namespace, corpus: Path, method: str, learned: str, lang: str, start: Path = None):
    """fairseq's trainer for one language, as fairseq-train makes it, and its batches."""
    from fairseq import checkpoint_utils, options, tasks
    from fairseq.data.iterators import GroupedIterator
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.trainer import Trainer

    from mlvl_fairseq.continual.methods import as_arguments, method_options
    from mlvl_fairseq.continual.sequence import USER_DIR

    line = f"--user-dir {USER_DIR} --task cll_retrieval --lang {lang} --learned={learned} --arch {args.arch} "
    line += "--criterion cll_clip --optimizer row_adamw --lr 5e-5 --lr-scheduler warmup_constant --clip-norm 1 "
    line += f"--batch-size {args.batch_size} --required-batch-size-multiple 1 --max-epoch 1 --seed 1 --cpu "
    line += f"--disable-validation --num-workers 0 --data-buffer-size 0 --save-dir {corpus.parent} "
    line += f"--finetune-from-model {start} " if start else ""
    line += f"--text-layers {args.layers} " if args.layers else ""
    arguments = [str(corpus), *line.split(), *as_arguments(method_options(method))]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), arguments))
    torch.manual_seed(1)
    task = tasks.setup_task(cfg.task)
    model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
    task.load_dataset("train")
    trainer = Trainer(cfg, task, model, criterion)
    _, epoch = checkpoint_utils.load_checkpoint(cfg.checkpoint, trainer, disable_iterator_cache=True)
    trainer.begin_epoch(1)
    return trainer, iter(GroupedIterator(epoch.next_epoch_itr(shuffle=False), 1))


def split_time(trainer, clock: Clock) -> List[dict]:
    """Have every part of an update charged to its name. Returns a list whose last entry is the batch of the update."""
    task, model, criterion, batches = trainer.task, trainer.model, trainer.criterion, []
    encode, losses = model.encode_text, criterion.forward

    def encode_text(*args, **kwargs):
        encoded = encode(*args, **kwargs)
        if encoded.vector.requires_grad:  # its gradient is there: what follows is the tower's backward pass
            encoded.vector.register_hook(lambda gradient: clock.switch(BACKWARD))
        return encoded

    def forward(model, sample, **kwargs):
        batches[:] = [sample]
        return losses(model, sample, **kwargs)

    model.encode_text, criterion.forward = encode_text, forward
    clock.wrap(model, "encode_text", FORWARD)
    clock.wrap(criterion, "forward", LOSSES)
    clock.wrap(trainer.optimizer, "backward", LOSSES)
    clock.wrap(trainer.optimizer, "multiply_grads", GRADIENTS)
    clock.wrap(trainer, "clip_grad_norm", GRADIENTS)
    clock.wrap(trainer.optimizer, "step", OPTIMIZER)
    for plugin in task.plugins.values():
        for hook in HOOKS:
            clock.wrap(plugin, hook, PLUGINS)
    return batches


def bare_seconds(trainer, sample: dict) -> float:
    """CPU seconds of the text features and their backward pass from a fixed gradient."""
    from mlvl_fairseq.data.caption_dataset import join_batches

    joined = reduce(join_batches, sample.get("memory", {}).values(), sample)  # with the rows that are replayed
    trainer.zero_grad()
    start = time.process_time()
    text = trainer.model(**joined["net_input"])["text"]
    text.backward(torch.ones_like(text))
    return time.process_time() - start


def measure(args: argparse.Namespace, corpus: Path, method: str) -> List[dict]:
    """CPU seconds of each part and of the bare tower (``bare``), and ``tokens`` a caption, for every update."""
    start = corpus.parent / f"{method}.pt"
    trainer, batches = build_trainer(args, corpus, method, "", "en")
    trainer.train_step(next(batches))  # a memory, if the method has one, is filled
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(start), {"train_iterator": {"epoch": 1}})
    trainer, batches = build_trainer(args, corpus, method, "en", "xx", start)
    clock, updates = Clock(), []
    seen = split_time(trainer, clock)
    for _ in range(args.updates + 1):
        clock.seconds.clear()
        with clock.part(DATA):
            samples = next(batches)
        with clock.part(OTHER):
            trainer.train_step(samples)
        tokens = samples[0]["ntokens"] / samples[0]["nsentences"]
        parts = dict(clock.seconds)
        updates.append({**parts, "bare": bare_seconds(trainer, seen[0]), "tokens": tokens})
    start.unlink()
    return updates[1:]  # the first allocates


def table_row(method: str, updates: List[dict]) -> str:
    """Tokens a caption, milliseconds of an update and of the bare tower, their ratio, and the parts' shares."""
    whole = np.array([sum(update.get(part, 0.0) for part in PARTS) for update in updates])
    bare = np.array([update["bare"] for update in updates])
    shares = [np.median([update.get(part, 0.0) for update in updates] / whole) for part in PARTS]
    tokens = np.mean([update["tokens"] for update in updates])
    cells = [
        f"{tokens:.1f}",
        f"{1e3 * np.median(whole):.0f}",
        f"{1e3 * np.median(bare):.0f}",
        f"**{np.median(whole / bare):.3f}**",
    ]
    return f"| `{method}` | {' | '.join(cells)} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="clip_vit_b16", help="whose text tower trains (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=0, help="of the text tower, to shorten it; 0: the arch's")
    parser.add_argument(
        "--methods", nargs="+", default=DEFAULT_METHODS, help="rows of mlvl-cll --list-methods (default: %(default)s)"
    )
    parser.add_argument("--updates", type=int, default=5, help="of each method (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=128, help="captions a batch (default: %(default)s)")
    parser.add_argument("--captions", type=int, default=20_000, help="of each language (default: %(default)s)")
    parser.add_argument("--mean-words", type=int, default=6, help="of captions (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    import mlvl_fairseq
    from mlvl_fairseq.networks.clip import ARCHITECTURES

    mlvl_fairseq.register()
    print(f"{args.arch}, {args.layers or 'all'} layers, batch {args.batch_size}, {args.updates} updates, one thread\n")
    columns = ("tokens a caption", "update, ms", "bare, ms", "ratio", *PARTS)
    print(f"| method | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null:
        with redirect_stderr(null):
            embed_dim = ARCHITECTURES[args.arch].get("embed_dim", 512)
            corpus = write_corpus(Path(folder), args.captions, args.mean_words, embed_dim)
            for method in args.methods:
                print(table_row(method, measure(args, corpus, method)), flush=True)
                gc.collect()


if __name__ == "__main__":
    main()
