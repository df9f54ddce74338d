"""What an update of mCLIP's translating encoder costs beside one of fairseq's own multilingual translation.

Ours is task ``mte_pretraining`` with model and criterion ``mte``; theirs is task ``translation_multi_simple_epoch``
with model ``transformer`` and criterion ``label_smoothed_cross_entropy``. Both are built from options of fairseq-train,
and an update is fairseq's whole ``Trainer.train_step``: forward, loss, backward, scaling and clipping of gradients,
fairseq's Adam, logging. Reading and collating data is no part of it. Both take the same batches of random ids in turn;
the ratio is the median over updates, in CPU time of one thread. Sentences are measured as they come, of different
lengths, in the batches that our task makes of them, and all of one length, where there is no padding to save.

Alike: sizes, post-norm encoder with learned positions, pre-norm decoder with sinusoidal ones, all embeddings shared and
frozen, dropouts, label smoothing, dictionary, initial weights, and what trains: in stage 1 the decoder (the encoder
is frozen and does not drop out), in stage 2 the layers of the encoder, too. fairseq's encoder is made XLM-R's by two
assignments: it gets the norm of embeddings and does not scale them. Before the first update the losses are compared,
without dropout and with our language maps set to the identity.

Not alike: ours has a linear map for each of seven languages between encoder and decoder, which trains; fairseq has
language tokens (a source's first id stands for one; for us it is ``<s>``). The decoder's activation is the tanh form of
GELU in ours, as published; fairseq's has the erf form, as it has one activation for both halves, and that form is the
faster one in fairseq. The row with the contrastive loss is compared with the same update of fairseq, which has none.

    python benchmarks/mte_step.py --layers 2                     # base sizes, 250,002 entries; 8 GB of memory
    python benchmarks/mte_step.py --arch mte_tiny --vocabulary 8000 --steps 30
"""

import argparse
import gc
import logging
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Dict, List, Tuple

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402
from torch import nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
LANGUAGES = ("cs", "de", "en", "es", "ja", "ru", "zh")  # the published ones
SOURCE, TARGET = "de", "en"
PAIRS = 4000  # of random sentences, from which batches are made
PAD = 1
COMMON = (
    "--langs {langs} --lang-pairs {source}-{target} --label-smoothing 0.1 --max-source-positions 512 "
    "--max-target-positions 512 --optimizer adam --adam-betas (0.9,0.98) --lr 1e-4 --lr-scheduler fixed --clip-norm 2 "
    "--dropout 0.1 --attention-dropout 0.1 --cpu --seed 1 --save-dir {folder}"
)
OURS = "--task mte_pretraining --arch {arch} --criterion mte --encoder-from-scratch --train-encoder {train_encoder} "
OURS += "--contrastive-lambda {contrastive} --autocast {autocast} "
OURS += "--encoder-layers {encoder_layers} --decoder-layers {decoder_layers}"
THEIRS = "--task translation_multi_simple_epoch --arch transformer --criterion label_smoothed_cross_entropy "
THEIRS += "--encoder-langtok tgt --left-pad-source False --share-all-embeddings --activation-fn gelu "
THEIRS += "--encoder-learned-pos --decoder-normalize-before"
SIZES = ("encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads")
SIZES += ("decoder_layers", "decoder_ffn_embed_dim", "decoder_attention_heads")
ROWS = (  # name, --train-encoder, --contrastive-lambda, whether lengths differ
    ("stage 1", "none", 0, True),
    ("stage 1", "none", 0, False),
    ("stage 2", "layers", 0, True),
    ("stage 2", "layers", 0, False),
    ("stage 2, contrastive", "layers", 2, True),
)


def write_dictionaries(folder: Path, vocabulary: int) -> None:
    """``dict.LANG.txt`` that both tasks read as the same dictionary of so many entries, the language tokens among them.

    fairseq adds four special symbols in front, and what it would add behind is there already.
    """
    last = [f"__{language}__" for language in LANGUAGES] + ["<mask>"]
    symbols = [f"w{i}" for i in range(vocabulary - 4 - len(last))] + last
    for language in LANGUAGES:
        (folder / f"dict.{language}.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols), encoding="utf-8")


def dimensions(arch: str, layers: int) -> Dict[str, int]:
    """Options of an architecture's sizes, both halves shortened to `layers` (0: not)."""
    from mlvl_fairseq.models.mte import MteConfig
    from mlvl_fairseq.networks.mte import ARCHITECTURES

    sizes = {name: ARCHITECTURES[arch].get(name, getattr(MteConfig, name)) for name in SIZES}
    return {**sizes, **({"encoder_layers": layers, "decoder_layers": layers} if layers else {})}


def build_trainer(folder: Path, line: str):
    """fairseq's trainer as fairseq-train makes it of its options."""
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.trainer import Trainer

    common = COMMON.format(langs=",".join(LANGUAGES), source=SOURCE, target=TARGET, folder=folder)
    arguments = [str(folder), *line.split(), *common.split()]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), arguments))
    torch.manual_seed(1)
    task = tasks.setup_task(cfg.task)
    return Trainer(cfg, task, task.build_model(cfg.model), task.build_criterion(cfg.criterion))


def ours(folder: Path, args: argparse.Namespace, sizes: Dict[str, int], train_encoder: str, contrastive: float):
    given = {"arch": args.arch, "autocast": args.autocast, "train_encoder": train_encoder, "contrastive": contrastive}
    return build_trainer(folder, OURS.format(**given, **sizes))


def theirs(folder: Path, sizes: Dict[str, int], train_encoder: str):
    """fairseq's transformer with XLM-R's kind of encoder, and the same parameters frozen."""
    trainer = build_trainer(folder, " ".join([THEIRS, *(f"--{k.replace('_', '-')} {v}" for k, v in sizes.items())]))
    encoder = trainer.get_model().encoder
    encoder.layernorm_embedding, encoder.embed_scale = nn.LayerNorm(encoder.embed_tokens.embedding_dim), 1.0
    if train_encoder == "none":
        encoder.requires_grad_(False).eval()
        encoder.train = lambda mode=True: encoder  # what Trainer calls before every update
    for module in (encoder.embed_tokens, encoder.embed_positions, encoder.layernorm_embedding):
        module.requires_grad_(False)
    return trainer


@torch.no_grad()
def copy_weights(mine: nn.Module, their: nn.Module) -> None:
    """Give our model fairseq's weights, and the identity for every language."""
    weights = dict(their.named_parameters())
    for name, parameter in mine.named_parameters():
        if not name.startswith("encoder.projection."):
            parameter.copy_(weights.pop(name.replace("encoder.xlmr.", "encoder.")))
    assert not weights, f"fairseq's model also has {', '.join(weights)}"
    mine.encoder.projection.weight.copy_(torch.eye(mine.encoder.projection.weight.shape[-1]))
    mine.encoder.projection.bias.zero_()


@torch.no_grad()
def loss_in_validation(trainer, sample: Dict) -> float:
    """Nats a token, without dropout."""
    loss, size, _ = trainer.criterion.eval()(trainer.model.eval(), sample)
    return (loss / size).item()


def random_batches(task, args: argparse.Namespace, lengths_differ: bool) -> List[Dict]:
    """Our task's batches of random pairs. Lengths are log-normal, those of most targets within 20 % of their source."""
    from fairseq.data import LanguagePairDataset

    from mlvl_fairseq.data.parallel import Direction, ParallelDataset

    rng, dictionary = np.random.default_rng(1), task.source_dictionary
    spread = (0.5, 0.2) if lengths_differ else (0.0, 0.0)
    source = args.mean_tokens * rng.lognormal(-(spread[0] ** 2) / 2, spread[0], PAIRS)
    target = source * rng.lognormal(0, spread[1], PAIRS)
    source, target = (np.clip(lengths.round().astype(int), 3, 250) for lengths in (source, target))
    words = len(dictionary) - 1 - len(LANGUAGES)

    def sentences(lengths: np.ndarray, first: int) -> List[torch.Tensor]:
        rows = (rng.integers(dictionary.nspecial, words, length) for length in lengths)
        return [torch.tensor([first, *row[1:-1], dictionary.eos()]) for row in rows]

    sides = sentences(source, dictionary.bos()), source, dictionary, sentences(target, words - 1), target, dictionary
    pairs = LanguagePairDataset(*sides, left_pad_source=False)
    data = ParallelDataset({Direction(SOURCE, TARGET): pairs}, {TARGET: task.language_id(TARGET)})
    batches = data.batch_by_size(data.ordered_indices(), max_tokens=args.max_tokens, required_batch_size_multiple=8)
    chosen = rng.choice(len(batches) - 1, args.steps + 1)  # the last one is smaller
    return [data.collater([data[i] for i in batches[number]]) for number in chosen]


def for_fairseq(sample: Dict) -> Dict:
    """The same batch without what fairseq's model does not take."""
    net_input = {name: value for name, value in sample["net_input"].items() if name != "target_lang"}
    return {**sample, "net_input": net_input}


def update_seconds(trainer, sample: Dict) -> float:
    began = time.process_time()
    trainer.train_step([sample])
    return time.process_time() - began


def measure(folder: Path, args: argparse.Namespace, row: Tuple[str, str, float, bool]) -> str:
    """One row of the table."""
    name, train_encoder, contrastive, lengths_differ = row
    sizes = dimensions(args.arch, args.layers)
    their = theirs(folder, sizes, train_encoder)
    mine = ours(folder, args, sizes, train_encoder, contrastive)
    copy_weights(mine.get_model(), their.get_model())
    batches = random_batches(mine.task, args, lengths_differ)
    losses = loss_in_validation(mine, batches[0]), loss_in_validation(their, for_fairseq(batches[0]))
    apart = "-" if contrastive else f"{abs(losses[0] - losses[1]) / losses[1]:.1e}"
    seconds = []
    for number, sample in enumerate(batches):
        turns = [lambda: update_seconds(mine, sample), lambda: update_seconds(their, for_fairseq(sample))]
        first = number % 2  # who goes first finds another cache
        taken = {turn: turns[turn]() for turn in (first, 1 - first)}
        seconds.append((taken[0], taken[1]))
    times = np.array(seconds[1:])  # the first allocates
    ratios = np.percentile(times[:, 0] / times[:, 1], [50, 25, 75])
    padding = np.mean([sample["target"].eq(PAD).float().mean() for sample in batches])
    cells = [name, f"{100 * padding:.0f} %", *(f"{second:.3f}" for second in np.median(times, 0))]
    return f"| {' | '.join(cells)} | **{ratios[0]:.3f}** | {ratios[1]:.3f} to {ratios[2]:.3f} | {apart} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="mte_base", help="mte_base, mte_large or mte_tiny (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=0, help="of encoder and decoder, to shorten them; 0: the arch's")
    parser.add_argument("--vocabulary", type=int, default=250_002, help="entries (default: XLM-R's, %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=1024, help="of a batch (default: %(default)s)")
    parser.add_argument("--mean-tokens", type=int, default=25, help="of a sentence (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="updates of each row (default: %(default)s)")
    parser.add_argument("--autocast", default="none", choices=["none", "bf16"], help="of ours (default: none)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    import fairseq

    import mlvl_fairseq

    mlvl_fairseq.register()
    logging.disable()
    print(f"{args.arch}, {args.layers or 'all'} layers, {args.vocabulary} entries, {args.max_tokens} tokens a batch,")
    print(f"{args.steps} updates, one thread; fairseq {fairseq.__version__}, torch {torch.__version__}\n")
    print("| update | padding of targets | ours, s | fairseq, s | ratio | half of them | losses apart, relative |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null, redirect_stderr(null):
        write_dictionaries(Path(folder), args.vocabulary)
        for row in ROWS:
            print(measure(Path(folder), args, row), flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
