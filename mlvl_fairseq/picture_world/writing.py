"""Writes a picture world: images, caption lists and training triplets."""

import json
import reprlib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

from tqdm import tqdm

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_json, write_text
from mlvl_fairseq.json_files import read_json
from mlvl_fairseq.picture_world.drawing import draw_picture
from mlvl_fairseq.picture_world.languages import get_language, language_codes
from mlvl_fairseq.picture_world.languages.base import Language
from mlvl_fairseq.picture_world.world import Picture, WorldSettings, plan_world

MANIFEST = "picture_world.json"
GENERATOR = 1  # to be raised when the same settings come to give other pictures or captions
IMAGES = "images"


def write_world(
    folder, settings: WorldSettings = WorldSettings(), languages: Optional[Iterable[str]] = None
) -> List[Path]:
    """Write what is missing of a world: ``images/{train,valid,test}/NNNNN.png`` (RGB, 64 x 64) and, for each language,

    - ``train.<lang>.json``: ``[{"image", "image_id", "caption": str}, ...]``, one caption a row;
    - ``valid.<lang>.json``, ``test.<lang>.json``: ``[{"image", "image_id", "caption": [str, str]}, ...]``;
    - ``train.vision-en-<lang>.tsv``: CLL-CLIP's triplets ``image <tab> English <tab> caption``, in the same order.

    The k-th captions of a picture translate each other. The files depend on the settings alone, byte by byte; so
    languages can be added to a world later, and an interrupted call is continued by the next one.

    Args:
        folder: where to; made if need be, otherwise empty or holding a world of the same settings.
        settings: seed and sizes.
        languages: codes; all languages there are by default.

    Returns:
        what was written; the folder of images counts as one.

    Raises:
        UserError: unknown language, impossible sizes, or a folder that holds something else.
        DataError: the folder's manifest is damaged.
    """
    speakers = [get_language(code) for code in (language_codes() if languages is None else languages)]
    world = plan_world(settings)
    folder = Path(folder)
    _claim(folder, settings)
    written = []
    if not (folder / IMAGES).exists():
        _write_images(folder / IMAGES, world)
        written.append(folder / IMAGES)
    for language in speakers:
        for name, content in _language_files(language, world).items():
            if not (folder / name).exists():
                write_text(folder / name, content())
                written.append(folder / name)
    return written


def _claim(folder: Path, settings: WorldSettings) -> None:
    """Mark a new folder as a world of these settings, or make sure that it is one already."""
    wanted = {"generator": GENERATOR, **asdict(settings)}
    manifest = folder / MANIFEST
    if manifest.exists():
        found = read_json(manifest, Dict[str, Any], "delete the folder and draw the world again")
        if found != wanted:
            keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
            differences = ", ".join(
                f"{reprlib.repr(key)[1:-1]} {_shown(found, key)}, not {_shown(wanted, key)}" for key in keys
            )
            raise UserError(f"{folder} holds another picture world ({differences}); choose a new folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no picture world; choose a new folder")
    write_json(manifest, wanted)


def _shown(manifest: Dict[str, Any], key: str) -> str:
    return reprlib.repr(manifest[key]) if key in manifest else "not set"


def _write_images(folder: Path, world: Dict[str, List[Picture]]) -> None:
    """Draw all pictures beside ``folder``, then rename: the folder is there as soon as it is complete."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    pictures = [picture for split in world.values() for picture in split]
    for split in world:
        (temporary / split).mkdir(parents=True, exist_ok=True)
    for picture in tqdm(pictures, desc="drawing", unit="picture", disable=None):
        draw_picture(picture.scene.place, picture.objects).save(temporary / picture.name)
    temporary.rename(folder)


def _language_files(language: Language, world: Dict[str, List[Picture]]) -> Dict[str, Callable[[], str]]:
    """Names of a language's files, and functions that give their contents."""
    code = language.code
    return {
        f"train.{code}.json": partial(_one_caption_a_row, world["train"], language),
        f"valid.{code}.json": partial(_one_picture_a_row, world["valid"], language),
        f"test.{code}.json": partial(_one_picture_a_row, world["test"], language),
        f"train.vision-en-{code}.tsv": partial(_triplets, world["train"], language),
    }


def _one_caption_a_row(pictures: Sequence[Picture], language: Language) -> str:
    return json_list(_row(picture, language.caption(plan)) for picture in pictures for plan in picture.plans)


def _one_picture_a_row(pictures: Sequence[Picture], language: Language) -> str:
    return json_list(_row(picture, [language.caption(plan) for plan in picture.plans]) for picture in pictures)


def _triplets(pictures: Sequence[Picture], language: Language) -> str:
    english = get_language("en")
    return "".join(
        f"{picture.name}\t{english.caption(plan)}\t{language.caption(plan)}\n"
        for picture in pictures
        for plan in picture.plans
    )


def _row(picture: Picture, caption: Any) -> Dict[str, Any]:
    return {"image": picture.name, "image_id": picture.image_id, "caption": caption}


def json_list(rows: Iterable[Dict[str, Any]]) -> str:
    """A JSON list with one row a line."""
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"
