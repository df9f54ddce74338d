"""What RandAugment costs a picture of 256 x 256, in both forms, against torchvision's of as many operations.

python benchmarks/rand_augment.py

torchvision does every operation it draws, ours each with probability 1/2, as published; so the operations are timed by
themselves, too. Rounds alternate, the best one of each counts.
"""

import time
from argparse import ArgumentParser

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import RandAugment

from mlvl_fairseq.data.images.rand_augment import NAMES, OPERATIONS, changed, rand_augment

SIZE = 256


def seconds(work, pictures) -> float:
    start = time.perf_counter()
    for picture in pictures:
        work(picture)
    return (time.perf_counter() - start) / len(pictures)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (args.pictures, SIZE // 8, SIZE // 8, 3), np.uint8)
    pictures = [Image.fromarray(part).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for part in small]
    works = {"torchvision": RandAugment(OPERATIONS, 7)}
    for form in ("fixed", "reference"):
        works[form] = lambda picture, form=form: rand_augment(picture, form, generator)
    for name in NAMES[1:]:
        works[f"  {name}"] = lambda picture, name=name: changed(picture, name, "fixed", generator)
    best = {name: float("inf") for name in works}
    for _ in range(args.rounds):
        for name, work in works.items():
            best[name] = min(best[name], seconds(work, pictures))
    for name, time_taken in best.items():
        print(f"{name:15} {1000 * time_taken:6.2f} ms  {time_taken / best['torchvision']:5.2f}")


if __name__ == "__main__":
    main()
