"""Commands that write. A job is one function: it puts what the command goes on from into the output folder, and gives
the command's line.
"""

import shutil
import sys
import time
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from typing import Callable, Dict, Optional

from small_world import ORDER, SmallWorld

AT_WORK = "at_work.txt"  # in the output: what a training is doing
CCLM = "--epoch-records 8 --max-epoch 3 --save-interval-updates 5"  # two iterations an epoch, of three batches each
Prepare = Callable[[SmallWorld, Path], str]  # world, output folder -> command line


@dataclass(frozen=True)
class Job:
    """A command that writes.

    Attributes:
        name: of the job. prepare: puts what the command goes on from into the output folder; gives its line.
        share: how many kills it gets, relative to the others.
        change: what is different in its process, e.g. so that it saves more often.
    """

    name: str
    prepare: Prepare
    share: float = 1.0
    change: Optional[Callable[[], None]] = None


JOBS: Dict[str, Job] = {}


def job(share: float = 1.0, change: Optional[Callable[[], None]] = None) -> Callable[[Prepare], Prepare]:
    """Register a job."""

    def register(prepare: Prepare) -> Prepare:
        JOBS[prepare.__name__] = Job(prepare.__name__, prepare, share, change)
        return prepare

    return register


def flush_every_batch() -> None:
    """Features reach the disk after every batch, not every two seconds: so few pictures take less."""
    from mlvl_fairseq.data.features import FeatureWriter

    FeatureWriter.__init__ = partialmethod(FeatureWriter.__init__, flush_seconds=0.0)


def write_slowly() -> None:
    """A pause after every batch of features, which reach the disk every two seconds as usual."""
    from mlvl_fairseq.data.features import FeatureWriter

    write = FeatureWriter.write

    def and_pause(self, *args, **options) -> None:
        write(self, *args, **options)
        time.sleep(0.15)

    FeatureWriter.write = and_pause


def tell_every_batch() -> None:
    """A file says which batch is at work, and one for each batch what its loss is: all of that can be interrupted, and
    all losses must be equal."""
    from mlvl_fairseq.tasks.cclm_pretraining import CclmPretrainingTask

    def told(name: str):
        step = getattr(CclmPretrainingTask, name)

        def and_tell(self, sample, *args, **options):
            folder = Path(sys.argv[sys.argv.index("--save-dir") + 1])
            place = f"{name}-{sample['stream']}-{int(sample['id'][0])}"
            (folder / AT_WORK).write_text(f"{name} of {sample['stream']}")
            result = step(self, sample, *args, **options)
            (folder / f"{place}.txt").write_text(repr([float(result[0]), int(result[1])]))
            return result

        setattr(CclmPretrainingTask, name, and_tell)

    told("train_step"), told("valid_step")


@job()
def picture_world(world: SmallWorld, out: Path) -> str:
    return f"mlvl-picture-world {out} --train 40 --valid 10 --test 10 --languages {ORDER}"


@job(share=2)
def prepare_captions(world: SmallWorld, out: Path) -> str:
    """Reading, BPE, binarizing."""
    return f"mlvl-prepare {out} {world.captions} --order {ORDER} --joint en,de --oracle en,de"


@job()
def prepare_language_more(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.bilingual_corpus, out, dirs_exist_ok=True)
    return f"mlvl-prepare {out} {world.captions} --order {ORDER}"


@job(share=3, change=flush_every_batch)
def prepare_teacher_features(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.plain_corpus, out, dirs_exist_ok=True)
    return f"mlvl-prepare {out} --teacher {world.teacher} --batch-size 4"


@job(change=write_slowly)
def prepare_teacher_features_slowly(world: SmallWorld, out: Path) -> str:
    return prepare_teacher_features(world, out)


@job(change=flush_every_batch)
def prepare_given_features(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.plain_corpus, out, dirs_exist_ok=True)
    features, names = world.corpus / "features" / "train.image.npy", world.corpus / "images" / "train.txt"
    return f"mlvl-prepare {out} --image-features train={features} --image-list train={names}"


@job(share=2, change=flush_every_batch)
def prepare_text_states(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.plain_corpus, out, dirs_exist_ok=True)
    return f"mlvl-prepare {out} --sentencepiece {world.pieces} --mte {world.mte}"


@job()
def sentencepiece(world: SmallWorld, out: Path) -> str:
    return f"mlvl-sentencepiece {out} --train {world.sentences}/train.de.txt --vocab-size 100"


@job(share=4)
def cll_replay(world: SmallWorld, out: Path) -> str:
    options = f"--method er_with_teir --order {ORDER} {world.sequence_options} --memory-size 20"
    return f"mlvl-cll {world.corpus} {out} {options} --save-interval-updates 2"


@job(share=4)
def cll_dark_replay(world: SmallWorld, out: Path) -> str:
    options = f"--method derpp --order {ORDER} {world.sequence_options} --memory-size 20"
    return f"mlvl-cll {world.corpus} {out} {options} --save-interval-updates 2"


@job(share=2)
def train_teacher(world: SmallWorld, out: Path) -> str:
    return f"fairseq-train {world.teacher_options} --max-epoch 3 --save-interval-updates 2 --save-dir {out}"


@job(share=3)
def train_trikd(world: SmallWorld, out: Path) -> str:
    return f"fairseq-train {world.trikd_options} --max-epoch 2 --save-interval-updates 2 --save-dir {out}"


@job(share=3)
def train_mte(world: SmallWorld, out: Path) -> str:
    """With validation, which translates."""
    return f"fairseq-train {world.mte_options} --max-epoch 2 --save-interval-updates 2 --save-dir {out}"


@job(share=6, change=tell_every_batch)
def train_cclm(world: SmallWorld, out: Path) -> str:
    """On four streams in turns, with validation."""
    more = f"--augment {CCLM}"
    return f"fairseq-train {world.cclm_options()} {more} --save-dir {out}"


@job(share=4, change=tell_every_batch)
def train_cclm_workers(world: SmallWorld, out: Path) -> str:
    """Of tar archives, read by two processes."""
    more = f"--augment {CCLM}"
    options = world.cclm_options("image_text.tar").replace("--num-workers 0", "--num-workers 2")
    return f"fairseq-train {options} {more} --save-dir {out}"


@job(share=4, change=tell_every_batch)
def train_cclm_joint(world: SmallWorld, out: Path) -> str:
    """An update is made of a batch of text, one in one language, and one of images or regions."""
    more = f"--augment {CCLM} --update-freq 3"
    return f"fairseq-train {world.cclm_options()} {more} --save-dir {out}"


@job(share=4, change=tell_every_batch)
def train_cclm_grids(world: SmallWorld, out: Path) -> str:
    """On given features of pictures."""
    towers = "--arch cclm --image-tower feature_grid --text-tower cclm_xlmr_nano --text-width 32 --text-layers 2"
    more = f"--image-features {world.streams}/grids.npy --fusion-layers 2 --embed-dim 16 {CCLM} --save-dir {out}"
    options = world.cclm_options(regions="sized.jsonl").replace("--arch cclm_tiny", towers)
    return f"fairseq-train {options} {more}"


@job(share=2)
def evaluate(world: SmallWorld, out: Path) -> str:
    return f"mlvl-evaluate {world.evaluate_options} --output-dir {out}/scores --json {out}/scores.json"


@job()
def encode(world: SmallWorld, out: Path) -> str:
    return f"mlvl-encode --sentencepiece {world.pieces} < {world.sentences}/train.de.txt > {out}/pieces.txt"


@job()
def fuse(world: SmallWorld, out: Path) -> str:
    captions = f"--captions {world.world}/train.vision-en-de.tsv --lang de --image-root {world.world}/images"
    return f"mlvl-fuse --checkpoint {world.teacher} {captions} --json {out}/fusion.json --plot {out}/fusion.png"


@job()
def export(world: SmallWorld, out: Path) -> str:
    return f"mlvl-export xlmr {world.trained_mte} {out}/xlmr --sentencepiece {world.pieces}"


@job()
def convert(world: SmallWorld, out: Path) -> str:
    return f"mlvl-convert mclip {world.released_mclip} {out}/mclip --sentencepiece {world.pieces}"


@job()
def report(world: SmallWorld, out: Path) -> str:
    return f"mlvl-report {world.run_folder} --output {out}/report"


@job()
def analyse_attention(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.run_folder, out / "run", dirs_exist_ok=True)
    return f"mlvl-analyse attention {out}/run --max-captions 16"


@job()
def analyse_convergence(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.run_folder, out / "run", dirs_exist_ok=True)
    return f"mlvl-analyse convergence {out}/run --max-captions 16 --noise 0 0.01"


@job()
def quickstart(world: SmallWorld, out: Path) -> str:
    few = "--pictures 70 --teacher-epochs 1 --epochs 1 --order en,de --methods cll_clip,er"
    return f"mlvl-quickstart --output {out} {few}"
