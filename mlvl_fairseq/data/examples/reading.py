"""Reading files of examples: the function that reads any format, and the options of whoever does."""

import importlib
import logging
from dataclasses import dataclass, field, replace
from typing import Dict, List, Optional, Sequence

from mlvl_fairseq.codes import language_code
from mlvl_fairseq.data.captions.lines import raw_lines
from mlvl_fairseq.data.captions.table import MISSING_IMAGE, POLICIES, Problems, shown
from mlvl_fairseq.data.data_files import refuse_remote
from mlvl_fairseq.data.examples.base import EXAMPLE_READERS, Draft, Example, ExampleBuilder, ExampleReader, Examples
from mlvl_fairseq.data.examples.images import ExampleImages, fill, leaves_root
from mlvl_fairseq.data.language_files import LANG
from mlvl_fairseq.errors import DataError, UserError

logger = logging.getLogger(__name__)

_HEAD_CHARACTERS = 1 << 16
FORMAT_OPTION = "--examples-format"


def example_readers() -> Dict[str, ExampleReader]:
    """Every format by name."""
    importlib.import_module("mlvl_fairseq.data.examples.readers")  # late: formats import the registry
    return EXAMPLE_READERS


@dataclass
class ExampleOptions:
    """How files of examples are read, as options of tasks and commands."""

    examples_format: str = field(
        default="auto",
        metadata={
            "help": "format of the files of examples; auto: told by their content",
            "choices": lambda: ("auto", *sorted(example_readers())),
        },
    )
    on_problem: str = field(
        default="skip",
        metadata={
            "help": "unusable examples (no text, an unknown label, a missing image): count and leave out, or stop at "
            "the first",
            "choices": POLICIES,
        },
    )
    max_problems: Optional[int] = field(
        default=None, metadata={"help": "stop after so many unusable examples of a file", "least": 0}
    )


def example_files(pattern: str, languages: Sequence[str], option: str) -> Dict[str, Optional[str]]:
    """File -> its language, None where nothing says it.

    Args:
        pattern: files with commas, with ``{lang}`` where the language stands in their names. languages: codes.
        option: of the command, for messages.

    Raises:
        UserError: no file, one twice, no language for ``{lang}``, or one on another machine.
    """
    found: Dict[str, Optional[str]] = {}
    for part in filter(None, map(str.strip, pattern.split(","))):
        refuse_remote(part, option)
        if LANG in part and not languages:
            raise UserError(f"{option} {part}: say which languages {LANG} stands for: --langs en,de")
        of_file = [language_code(lang) for lang in languages] if LANG in part else [None]
        for lang in of_file:
            path = part.replace(LANG, lang or "")
            if path in found:
                raise UserError(f"{option} {pattern}: {path} is in it twice")
            found[path] = lang
    if not found:
        raise UserError(f"{option}: give a file of examples")
    return found


def read_examples(
    path,
    images: Optional[ExampleImages] = None,
    *,
    format: str = "auto",
    lang: Optional[str] = None,
    classes: Sequence[str] = (),
    template: str = "",
    keep_unlabelled: bool = False,
    on_problem: str = "skip",
    max_problems: Optional[int] = None,
) -> Examples:
    """Read a file of examples in any registered format, plain or gzip.

    Args:
        path: the file.
        images: where the images are, which decides about their names and leaves out examples whose images are not all
            there; None: they are named by the published layout, and nobody looks.
        format: a name in :func:`example_readers`, or ``"auto"`` to tell by content.
        lang: of the texts; None: as the file says.
        classes: the labels there are, in the order of their numbers; by default the format's.
        template: of image names where `images` is None; by default the published layout.
        keep_unlabelled: keep, with the label None, examples that annotators did not agree on, and questions without an
            answer; they are counted either way.
        on_problem: ``"skip"`` counts and leaves out examples that cannot be used; ``"error"`` raises at the first.
        max_problems: with ``"skip"``, raise when more examples than this cannot be used.

    Raises:
        UserError: no such format; the file has no labels and `classes` are given.
        DataError: the file is absent, empty, damaged or of no known format; no usable example; by policy.
    """
    path = str(path)
    reader = _reader(path, format)
    if classes and not reader.classes:
        raise UserError(f"--classes {','.join(classes)}: {path} (format {reader.name}) holds questions, no labels")
    known = tuple(classes) or reader.classes
    problems = Problems(on_problem, max_problems, things="examples")
    rows = ExampleBuilder(path, known, problems, keep_unlabelled, lang)
    reader.read(path, rows)
    examples = _with_images(rows, images, [template] if template else reader.layouts)
    if not examples:
        first = next(iter(problems.examples.values()), [""])[0]
        raise DataError(f"no usable example: {problems.brief()}; first: {first}" if first else "is empty", path)
    if problems:
        logger.warning("%s: %s", path, problems.summary())
    return Examples(path, reader.name, examples, known, reader.images_per_text, problems)


def _with_images(rows: ExampleBuilder, images: Optional[ExampleImages], layouts: Sequence[str]) -> List[Example]:
    """The examples with names of their images, without those whose images are not all there."""
    every = [image for draft in rows.drafts for image in draft.images]
    if images is None:
        names = fill(layouts[0], every, rows.path)
        absent = set()
    else:
        names = images.named(every, layouts, rows.path)
        absent = set(images.missing(names).tolist())
    found, row = [], 0
    for draft in rows.drafts:
        own = range(row, row + len(draft.images))
        row += len(draft.images)
        if _all_there(draft, own, names, absent, rows, images):
            found.append(replace(draft.example, images=tuple(names[image] for image in own)))
    return found


def _all_there(draft: Draft, own: range, names: List[str], absent: set, rows: ExampleBuilder, images) -> bool:
    for number, image in enumerate(own, 1):
        which = f"image {number} of {len(own)}, " if len(own) > 1 else ""
        if leaves_root(names[image]):
            rows.skip(MISSING_IMAGE, f"{which}{shown(names[image])}, leads out of the image root", draft.example.line)
            return False
        if image in absent:
            rows.skip(MISSING_IMAGE, f"{which}'{names[image]}' is not in {images.where}", draft.example.line)
            return False
    return True


def _reader(path: str, format: str) -> ExampleReader:
    known = example_readers()
    if format != "auto":
        if format not in known:
            raise UserError(f"{FORMAT_OPTION} {format}: choose one of auto, {', '.join(sorted(known))}")
        return known[format]
    head = "".join(_head(path))[:_HEAD_CHARACTERS]
    if not head.strip():
        raise DataError("is empty", path)
    fitting = [reader for _, reader in sorted(known.items()) if reader.sniff(head)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " or ".join(reader.name for reader in fitting)
        raise DataError(f"could be {names}: say which with {FORMAT_OPTION}", path)
    raise DataError(
        f"cannot tell its format of examples from {shown(head)}; name it with {FORMAT_OPTION}: "
        f"{', '.join(sorted(known))}",
        path,
    )


def _head(path: str):
    size = 0
    for part in raw_lines(path, limit=_HEAD_CHARACTERS):
        yield part
        size += len(part)
        if size >= _HEAD_CHARACTERS:
            return
