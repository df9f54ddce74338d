"""Streams of CCLM's pre-training: JSON lines of pictures, regions of pictures and parallel text."""

import base64
import json
import random
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Tuple

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_text
from mlvl_fairseq.picture_world.captions import plan_captions
from mlvl_fairseq.picture_world.drawing import bounding_box
from mlvl_fairseq.picture_world.languages import get_language
from mlvl_fairseq.picture_world.languages.base import Language
from mlvl_fairseq.picture_world.manifest import claim
from mlvl_fairseq.picture_world.scenes import INVERSE, Scene, draw_scenes
from mlvl_fairseq.picture_world.world import SPLITS, Picture, WorldSettings, plan_world
from mlvl_fairseq.picture_world.writing import IMAGES

FOLDER, MANIFEST = "streams", "streams.json"
GENERATOR = 1  # to be raised when the same settings come to give other lines
SHARE = 10  # one line of parallel text in so many besides for validation; at least one
Row = Dict[str, Any]


@dataclass(frozen=True)
class StreamSettings:
    """What the streams of a world hold.

    Attributes:
        languages: of the captions of pictures and regions in training and validation.
        pairs: of languages, between which parallel text translates; each is as frequent as the others.
        parallel: lines of parallel text in training; what they tell is in no picture and in no other line.
        monolingual: training pictures, the last ones, that have captions of the first language only.
        binary: pictures stand in the lines themselves, in base64, instead of their names.
    """

    languages: Sequence[str]
    pairs: Sequence[Tuple[str, str]]
    parallel: int = 3000
    monolingual: int = 0
    binary: bool = False


def write_streams(folder, world: WorldSettings, settings: StreamSettings, test_languages: Iterable[str]) -> List[Path]:
    """Write what is missing of ``streams/{train,valid}`` of a world whose pictures are drawn:

    - ``image_text.jsonl``: ``{"image": name, "caption": [{lang: caption, ...}, ...]}``;
    - ``regions.jsonl``: ``{"image", "caption", "elems": [{"bb": [x, y, width, height], "caption": {lang: phrase, ...},
      "attributes": {lang: words, ...}}, ...]}``, an element for each group of things; the box is that of what is drawn,
      in pixels; the attributes, where it lies in the picture, are left out where there is one group only;
    - ``parallel.jsonl``: ``{"source_text", "target_text"}``;
    - ``monolingual.jsonl``: ``{"image", "desc": [caption, ...]}``, if there is any;

    and ``streams/test/regions.jsonl`` with captions of `test_languages`. With pictures in base64 ``"binary"`` stands in
    the place of ``"image"``. The files depend on the arguments alone.

    Args:
        folder: of the world. world: its settings. settings: of the streams. test_languages: codes.

    Returns:
        what was written.

    Raises:
        UserError: an unknown language, a pair of one language, impossible numbers, or other streams in the folder.
        DataError: the streams' manifest is damaged.
    """
    speakers = [get_language(code) for code in settings.languages]
    everyone = [get_language(code) for code in dict.fromkeys((*settings.languages, *test_languages))]
    pairs = [(get_language(one), get_language(other)) for one, other in settings.pairs]
    _check(world, settings)
    pictures, folder = plan_world(world), Path(folder)
    streams = folder / FOLDER
    wanted = {"generator": GENERATOR, **asdict(settings), "test_languages": [one.code for one in everyone]}
    claim(streams / MANIFEST, json.loads(json.dumps(wanted)), "streams")
    named = partial(_binary, folder / IMAGES) if settings.binary else _named
    files: Dict[str, Callable[[], Iterator[Row]]] = {
        "test/regions.jsonl": partial(_regions, pictures["test"], everyone, named)
    }
    scenes = parallel_scenes(world, settings) if pairs else {}
    for split in ("train", "valid"):
        shown, own = pictures[split], _share(settings.monolingual, split)
        files[f"{split}/image_text.jsonl"] = partial(_image_text, shown[: len(shown) - own], speakers, named)
        files[f"{split}/regions.jsonl"] = partial(_regions, shown[: len(shown) - own], speakers, named)
        if own:
            files[f"{split}/monolingual.jsonl"] = partial(_monolingual, shown[-own:], speakers[0], named)
        if pairs:
            files[f"{split}/parallel.jsonl"] = partial(
                _parallel, scenes[split], pairs, f"{world.seed}/{split}/parallel"
            )
    return [path for name, rows in files.items() for path in _write(streams / name, rows)]


def parallel_scenes(world: WorldSettings, settings: StreamSettings) -> Dict[str, List[Scene]]:
    """What parallel text tells, by split; nothing of it is in a picture of the world."""
    sizes = {split: getattr(world, split) for split in SPLITS}
    own = {split: _share(settings.parallel, split) for split in ("valid", "train")}
    scenes = draw_scenes(world.seed, {**sizes, **{f"{split}/parallel": size for split, size in own.items()}})
    return {split: scenes[f"{split}/parallel"] for split in own}


def _share(number: int, split: str) -> int:
    return number if split == "train" or number == 0 else max(1, number // SHARE)


def _check(world: WorldSettings, settings: StreamSettings) -> None:
    if not settings.languages:
        raise UserError("streams need a language of their captions")
    for one, other in settings.pairs:
        if one == other:
            raise UserError(f"parallel text of {one} and {other}: give two languages")
    if settings.parallel < 1:
        raise UserError(f"parallel={settings.parallel}: give the number of lines, at least one")
    for split in ("train", "valid"):
        own, there = _share(settings.monolingual, split), getattr(world, split)
        if not 0 <= own < there:
            message = f"monolingual={settings.monolingual}: {split} has {there} pictures, at least one must be left"
            raise UserError(message)


def _write(path: Path, rows: Callable[[], Iterator[Row]]) -> List[Path]:
    if path.exists():
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows()))
    return [path]


def _named(picture: Picture) -> Row:
    return {"image": picture.name}


def _binary(images: Path, picture: Picture) -> Row:
    return {"binary": base64.b64encode((images / picture.name).read_bytes()).decode("ascii")}


def _captions(picture: Picture, speakers: Sequence[Language]) -> List[Dict[str, str]]:
    return [{language.code: language.caption(plan) for language in speakers} for plan in picture.plans]


def _image_text(pictures: Sequence[Picture], speakers: Sequence[Language], named) -> Iterator[Row]:
    for picture in pictures:
        yield {**named(picture), "caption": _captions(picture, speakers)}


def _monolingual(pictures: Sequence[Picture], language: Language, named) -> Iterator[Row]:
    for picture in pictures:
        yield {**named(picture), "desc": [language.caption(plan) for plan in picture.plans]}


def _regions(pictures: Sequence[Picture], speakers: Sequence[Language], named) -> Iterator[Row]:
    for picture in pictures:
        elements = list(_elements(picture, speakers))
        yield {**named(picture), "caption": _captions(picture, speakers), "elems": elements}


def _elements(picture: Picture, speakers: Sequence[Language]) -> Iterator[Row]:
    """Things of one group look alike and are told together: no phrase of a picture fits two of its boxes."""
    scene = picture.scene
    sides = (scene.relation, INVERSE.get(scene.relation)) if scene.second else (None,)
    for group, side in zip((scene.first, scene.second), sides):
        drawn = [item for item in picture.objects if (item.kind, item.colour) == (group.kind, group.colour)]
        element = {"bb": list(bounding_box(drawn)), "caption": {one.code: one.named(group) for one in speakers}}
        yield {**element, "attributes": {one.code: one.side(side) for one in speakers}} if side else element


def _parallel(scenes: Sequence[Scene], pairs: Sequence[Tuple[Language, Language]], seed: str) -> Iterator[Row]:
    for index, scene in enumerate(scenes):
        rng = random.Random(f"{seed}/{index}")
        (plan,) = plan_captions(scene, rng, 1)
        one, other = pairs[index % len(pairs)]
        yield {"source_text": one.caption(plan), "target_text": other.caption(plan)}
