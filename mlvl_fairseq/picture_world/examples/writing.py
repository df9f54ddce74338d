"""Writes the examples of a world whose pictures are drawn."""

import json
import random
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Sequence

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_text
from mlvl_fairseq.picture_world.examples import tasks as _tasks  # noqa: F401  they register themselves
from mlvl_fairseq.picture_world.examples.base import EXAMPLE_TASKS, Example, ExampleTask, Shelf
from mlvl_fairseq.picture_world.languages import get_language
from mlvl_fairseq.picture_world.languages.base import Language
from mlvl_fairseq.picture_world.manifest import claim
from mlvl_fairseq.picture_world.world import SPLITS, WorldSettings, plan_world

FOLDER, MANIFEST = "examples", "examples.json"
GENERATOR = 1  # to be raised when the same settings come to give other examples
SHARE = 10  # one in so many training examples besides for validation, and for a test
FEW = "few"  # the split of examples in other languages than English, about training pictures
PARALLEL = "parallel"  # the folder of the sentences and questions of other examples with their translations
TRAINED = "en"
Drawn = Dict[str, Dict[str, List[Example]]]  # task -> split -> examples


@dataclass(frozen=True)
class ExampleSettings:
    """How many examples of each task there are, about: a unit of balanced ones is not cut.

    Attributes:
        train: in English, about the training pictures; a tenth as many in every language about validation and test
            pictures.
        few: in each other language, about training pictures.
    """

    train: int = 6000
    few: int = 48


def write_examples(folder, world: WorldSettings, settings: ExampleSettings, languages: Iterable[str]) -> List[Path]:
    """Write what is missing of ``examples/{entailment,questions,statements}``, in the formats of XVNLI, GQA and xGQA,
    NLVR2 and MaRVL, of a world whose pictures are drawn:

    - ``train.en.*``: about training pictures, in English;
    - ``few.<lang>.*``: a few about training pictures, in the other languages;
    - ``valid.<lang>.*``, ``test.<lang>.*``: the same examples in all languages;

    and ``examples/parallel/{train,valid}.en-<lang>.jsonl``: ``{"source_text", "target_text"}``, sentences and questions
    like these, drawn for themselves. The files depend on the settings alone; languages may be added later.

    Args:
        folder: of the world. world: its settings. settings: of the examples. languages: codes.

    Returns:
        what was written.

    Raises:
        UserError: an unknown language, impossible numbers, too few pictures, or other examples in the folder.
        DataError: the manifest is damaged.
    """
    if min(settings.train, settings.few) < 1:
        raise UserError(f"examples={settings.train}, few={settings.few}: give numbers of examples, at least one")
    speakers, folder = [get_language(code) for code in languages], Path(folder) / FOLDER
    mark = partial(claim, folder / MANIFEST, {"generator": GENERATOR, **asdict(settings)}, "examples")
    if (folder / MANIFEST).exists():
        mark()
    missing = {path: content for path, content in _files(speakers).items() if not (folder / path).exists()}
    if not missing:
        return []
    drawn = draw_examples(world, settings)
    mark()
    for path, content in missing.items():
        (folder / path).parent.mkdir(exist_ok=True)
        write_text(folder / path, content(drawn))
    return [folder / path for path in missing]


def _files(speakers: Sequence[Language]) -> Dict[str, Callable[[Drawn], str]]:
    """Names of files, and what gives their contents."""
    others, english = [language for language in speakers if language.code != TRAINED], get_language(TRAINED)
    files: Dict[str, Callable[[Drawn], str]] = {}
    for name, task in EXAMPLE_TASKS.items():
        files[f"{name}/train.{TRAINED}{task.train_suffix}"] = partial(_trained, task, english)
        for split, heard in ((FEW, others), ("valid", speakers), ("test", speakers)):
            for language in heard:
                files[f"{name}/{split}.{language.code}{task.suffix}"] = partial(_asked, task, split, language)
    for split, language in product(("train", "valid"), others):
        files[f"{PARALLEL}/{split}.{TRAINED}-{language.code}.jsonl"] = partial(_parallel, split, english, language)
    return files


def draw_examples(world: WorldSettings, settings: ExampleSettings) -> Drawn:
    """Task -> split -> examples; ``few``, and what parallel text says, are splits, too."""
    pictures = plan_world(world)
    small = max(1, settings.train // SHARE)
    sizes = {"train": settings.train, FEW: settings.few, "valid": small, "test": small}
    sizes.update({f"train/{PARALLEL}": settings.train // len(EXAMPLE_TASKS), f"valid/{PARALLEL}": small})
    drawn: Drawn = {name: {} for name in EXAMPLE_TASKS}
    for name, task in EXAMPLE_TASKS.items():
        for split, number in sizes.items():
            own = split.partition("/")[0]
            shelf = Shelf(
                pictures[own if own in SPLITS else "train"], random.Random(f"{world.seed}/{split}/examples/{name}")
            )
            try:
                drawn[name][split] = task.draw(shelf, number)
            except UserError as error:
                raise UserError(f"{len(shelf.names)} {own} pictures: {error}") from None
    return drawn


def _trained(task: ExampleTask, language: Language, drawn: Drawn) -> str:
    return task.train_file(drawn[task.name]["train"], language)


def _asked(task: ExampleTask, split: str, language: Language, drawn: Drawn) -> str:
    return task.file(drawn[task.name][split], language, split)


def _parallel(split: str, one: Language, other: Language, drawn: Drawn) -> str:
    """Every text once."""
    examples = [example for found in drawn.values() for example in found[f"{split}/{PARALLEL}"]]
    pairs = dict.fromkeys((example.say(one), example.say(other)) for example in examples)
    rows = ({"source_text": source, "target_text": target} for source, target in pairs)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
