"""What experiments of the published size take, worked out from measured rates: the tables of docs/scale.md.

Every rate is an option; its help names the command that measured its default, in CPU seconds of one core. What a GPU
computes nobody has measured here: it is an assumption, and said to be one. `--measure` measures how fast pictures are
read.

    python benchmarks/published_scale.py
    python benchmarks/published_scale.py --measure
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Iterable, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
LANGUAGES, UNSPACED = 36, 3  # XM3600's without Cusco Quechua and with English; ja, th and zh write no spaces
COCO_CAPTIONS, COCO_PICTURES = 566_747, 113_287
CC3M_PICTURES, CC3M_CAPTIONS = 3_035_376, 2_348_709
CCLM_PICTURES, WIKI_PAIRS = 5_004_332, 19_000_000
STATE_TOKENS = 16  # of a caption in SentencePiece, both ends included (an assumption)


def rate(default: float, help: str):
    return field(default=default, metadata={"help": help})


@dataclass
class Rates:
    """What was measured, or is assumed."""

    spaced_made: float = rate(8.6, "CPU s to read 566,000 captions and train their BPE (prepare_corpus.py, de)")
    unspaced_made: float = rate(17.9, "the same where words are not written apart (prepare_corpus.py, zh)")
    source_made: float = rate(
        9.8, "the same of the source language, cut with CLIP's vocabulary, too (prepare_corpus.py)"
    )
    spaced_cut: float = rate(4.5, "CPU s to grow a vocabulary and cut such captions with it (prepare_corpus.py, de)")
    unspaced_cut: float = rate(10, "the same where words are not written apart (prepare_corpus.py, zh)")
    process_mib: float = rate(998, "largest process of these (prepare_corpus.py)")
    caption_bytes: float = rate(49.1, "text of a caption, mean (prepare_corpus.py, corpus/captions)")
    caption_ids: float = rate(12.1, "ids of a caption with its end, mean (prepare_corpus.py, lengths.json)")
    pictures: float = rate(205, "pictures of 640 x 480 a second and core, read for CLIP at 224 (--measure)")
    drafted: float = rate(313, "the same with --draft-jpeg (--measure)")
    augmented: float = rate(218, "the same, augmented as LilT and CCLM do, at 224 (--measure)")
    picture_kb: float = rate(160, "kB of such a picture (MS-COCO: train2014 has 82,783 in 13.5 GB)")
    batched: float = rate(29_000, "captions a second and core made batches (cll_step.py: 0.1 %% of 4.43 s for 128)")
    teraflops: float = rate(50, "1e12 operations a second of a GPU. ASSUMED: nothing was measured on one")


def table(title: str, head: Sequence[str], rows: Iterable[Sequence]) -> None:
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(one if isinstance(one, str) else number(one) for one in row)} |")


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def preparation(r: Rates) -> None:
    """36 languages of MS-COCO: what is made of them with one command, and with how many cores."""
    spaced = LANGUAGES - UNSPACED - 1
    made = r.source_made + spaced * r.spaced_made + UNSPACED * r.unspaced_made
    cut = (spaced + 1) * r.spaced_cut + UNSPACED * r.unspaced_cut
    table(
        "Preparing 36 languages of MS-COCO (`--languages`, then `--order`); minutes, ideal sharing after the source",
        ("cores", "corpus and BPE, min", "vocabularies and ids, min", "together, min", "memory, GiB"),
        (
            (
                str(cores),
                (r.source_made + (made - r.source_made) / cores) / 60,
                cut / cores / 60,
                (r.source_made + (made - r.source_made) / cores + cut / cores) / 60,
                cores * r.process_mib / 1024,
            )
            for cores in (1, 2, 8, 16)
        ),
    )


def volumes(r: Rates) -> None:
    """Files, in GB."""
    text, ids = COCO_CAPTIONS * r.caption_bytes, COCO_CAPTIONS * (12 + 4 * r.caption_ids)
    coco = LANGUAGES * COCO_CAPTIONS
    rows = (
        ("CLL-CLIP: pictures of MS-COCO", COCO_PICTURES * r.picture_kb * 1e3),
        ("its captions in 36 languages, text", LANGUAGES * text),
        ("their rows, and ids in grown vocabularies", coco * 8 + LANGUAGES * ids),
        ("teacher's features of both, 512 dimensions, float16", 1024 * (COCO_PICTURES + COCO_CAPTIONS)),
        ("the same in float32", 2048 * (COCO_PICTURES + COCO_CAPTIONS)),
        ("TriKD: pictures of CC3M", CC3M_PICTURES * r.picture_kb * 1e3),
        ("CLIP's features of pictures and sentences, 768, float16", 1536 * (CC3M_PICTURES + CC3M_CAPTIONS)),
        (f"XLM-R's states of {STATE_TOKENS} pieces a sentence, 768, float16", 1536 * STATE_TOKENS * CC3M_CAPTIONS),
        ("CCLM 4M: pictures, in or beside the lines", CCLM_PICTURES * r.picture_kb * 1e3),
        ("index of its lines (tar: four times as much)", CCLM_PICTURES * 8),
        ("ids of 19 million pairs of sentences, 30 pieces a side", WIKI_PAIRS * 2 * (12 + 4 * 30)),
    )
    table("Files", ("what", "GB"), ((name, size / 1e9) for name, size in rows))


def reading(r: Rates) -> None:
    """Pictures read once, by a core, and by 16."""
    sets = (("MS-COCO", COCO_PICTURES), ("CC3M", CC3M_PICTURES), ("CCLM 4M", CCLM_PICTURES))
    speeds = r.pictures, *(16 * speed for speed in (r.pictures, r.drafted, r.augmented))
    table(
        "Pictures read once, hours",
        ("pictures", "one core", "16 cores", "16 cores, --draft-jpeg", "16 cores, augmented"),
        ((name, *(count / speed / 3600 for speed in speeds)) for name, count in sets),
    )


def layers(width: int, count: float) -> float:
    """Operations of a transformer's layers, forward, a token."""
    return 24 * width**2 * count


def training(r: Rates) -> None:
    """Updates: what they compute at the assumed rate, and what they read at the measured ones."""
    clip_text = 3 * 40 * layers(512, 12)  # 40 positions with padding; backward is twice the forward pass
    projector = 3 * STATE_TOKENS * layers(768, 2)
    swin = 3 * 31e9
    cclm = swin + 3 * 40 * layers(768, 12) + 3 * 3 * 40 * layers(1024, 6) * 1.3  # fusion reads a pair and two negatives
    trikd_updates = 15 * CC3M_PICTURES // 16_384
    rows = (
        ("CLL-CLIP, 36 languages x COCO, one GPU", LANGUAGES * 13_281, 128, clip_text, 1, r.batched),
        ("the same on 8 GPUs, 16 captions each", LANGUAGES * 13_281, 128, clip_text, 8, r.batched),
        ("TriKD on CC3M, features and states stored, 8 GPUs", trikd_updates, 16_384, projector, 8, r.batched),
        ("CCLM 4M, updates with pictures, 8 GPUs", 146_640, 1024, cclm, 8, r.augmented),
    )
    shown = []
    for name, updates, size, flops, gpus, speed in rows:
        seconds = size * flops / gpus / r.teraflops / 1e12
        each = updates, size, flops / 1e9, seconds, updates * seconds / 3600, size / seconds, size / seconds / speed
        shown.append((name, *each))
    head = ("updates", "rows in one", "GFLOP a row", "s an update", "hours", "rows a s", "cores that make them")
    table(f"Training, at an assumed {r.teraflops:g} TFLOP/s a GPU", ("experiment", *head), shown)


def measured_reading(count: int) -> None:
    """How many pictures one thread reads in a second, in each way."""
    import numpy as np
    import torch
    from PIL import Image

    from mlvl_fairseq.data.images.augmentation import Augmentation
    from mlvl_fairseq.data.images.reading import load_image, read_image
    from mlvl_fairseq.data.images.transforms import ImageTransform

    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{place}.jpg" for place in range(count)]
        for path in paths:
            small = Image.fromarray(generator.integers(0, 256, (96, 128, 3), np.uint8))
            small.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=95)
        print(f"\n{count} pictures, {np.mean([path.stat().st_size for path in paths]) / 1e3:.0f} kB each")
        usual, draft = ImageTransform("clip", 224), ImageTransform("clip", 224, draft=True)
        augment = Augmentation()

        def augmented(path):
            return usual(augment(load_image(path, None), 224, generator))

        ways = {
            "as CLIP reads them": lambda path: read_image(path, usual),
            "with --draft-jpeg": lambda path: read_image(path, draft),
            "augmented": augmented,
        }
        read_image(paths[0], usual)
        for name, read in ways.items():
            start = time.process_time()
            for path in paths:
                read(path)
            print(f"{name}: {count / (time.process_time() - start):.0f} a second and core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure how fast pictures are read, and nothing else")
    parser.add_argument("--count", type=int, default=60, help="pictures to measure with (default: %(default)s)")
    for one in fields(Rates):
        help = f"{one.metadata['help']} (default: %(default)s)"
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=float, default=one.default, help=help)
    args = parser.parse_args()
    if args.measure:
        return measured_reading(args.count)
    rates = Rates(**{one.name: getattr(args, one.name) for one in fields(Rates)})
    for part in (preparation, volumes, reading, training):
        part(rates)


if __name__ == "__main__":
    main()
