"""Pictures of classes: one to four things of one kind and colour in front of any place, in a folder for each class, and
what every language calls the classes. To train image towers on, and for zero-shot classification."""

import random
from functools import partial
from itertools import product
from pathlib import Path
from typing import Iterable, List, Sequence, Tuple

from tqdm import tqdm

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_text
from mlvl_fairseq.picture_world.captions import CaptionPlan
from mlvl_fairseq.picture_world.drawing import draw_picture
from mlvl_fairseq.picture_world.languages import get_language
from mlvl_fairseq.picture_world.languages.base import Language
from mlvl_fairseq.picture_world.layout import place_objects
from mlvl_fairseq.picture_world.manifest import claim
from mlvl_fairseq.picture_world.scenes import COLOURS, KINDS, MAX_COUNT, PLACES, Group, Scene

CLASSES: Sequence[Tuple[str, str]] = tuple(product(COLOURS, KINDS))
FOLDER, MANIFEST = "classes", "classes.json"
GENERATOR = 1  # to be raised when the same settings come to give other pictures or names
SHARE = 10  # of a class's training pictures, one in so many besides for validation, and for a test; at least one


def write_classes(folder, seed: int, number: int, languages: Iterable[str]) -> List[Path]:
    """Write what is missing of ``classes/{train,valid,test}/COLOUR_KIND/NNN.png``, all there are of 8 colours and 16
    kinds, and ``classes/names.LANG.txt``: ``COLOUR_KIND<TAB>caption``, a line each, as ``Ein roter Stern.``

    The files depend on the arguments alone; languages may be added later.

    Args:
        folder: a world's. seed: of the world. number: training pictures of a class. languages: codes.

    Returns:
        what was written; the pictures of a split count as one.

    Raises:
        UserError: no number of pictures, an unknown language, or a folder that holds other classes.
        DataError: the folder's manifest is damaged.
    """
    if number < 1:
        raise UserError(f"classes={number}: every class needs at least one picture")
    speakers = [get_language(code) for code in languages]
    folder = Path(folder) / FOLDER
    claim(folder / MANIFEST, {"generator": GENERATOR, "seed": seed, "train": number}, "classes", "draw")
    written = []
    for split, size in {"train": number, **dict.fromkeys(("valid", "test"), max(1, number // SHARE))}.items():
        if not (folder / split).exists():
            _write_split(folder / split, seed, size)
            written.append(folder / split)
    for language in speakers:
        path = folder / f"names.{language.code}.txt"
        if not path.exists():
            write_text(path, _names(language))
            written.append(path)
    return written


def class_name(colour: str, kind: str) -> str:
    return f"{colour}_{kind}"


def _names(language: Language) -> str:
    def called(colour: str, kind: str) -> str:
        return language.caption(CaptionPlan("phrase", PLACES[0], Group(kind, colour, 1)))

    return "".join(f"{class_name(*one)}\t{called(*one)}\n" for one in CLASSES)


def _write_split(folder: Path, seed: int, size: int) -> None:
    """Draw all pictures beside ``folder``, then rename: the folder is there as soon as it is complete."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    places = partial(tqdm, desc=f"drawing {folder.name} pictures of classes", unit="class", disable=None)
    for colour, kind in places(CLASSES):
        own = temporary / class_name(colour, kind)
        own.mkdir(parents=True, exist_ok=True)
        for index in range(size):
            rng = random.Random(f"{seed}/classes/{folder.name}/{own.name}/{index}")
            place = rng.choice(PLACES)
            scene = Scene(Group(kind, colour, rng.randint(1, MAX_COUNT)), None, None, place)
            draw_picture(place, place_objects(scene, rng)).save(own / f"{index:03d}.png")
    temporary.rename(folder)
