"""The one function that reads caption files."""

import logging
from typing import Optional

from mlvl_fairseq.data.captions import readers  # noqa: F401  (registers the formats)
from mlvl_fairseq.data.captions.checks import count_duplicates, without_missing_images
from mlvl_fairseq.data.captions.problems import Problems
from mlvl_fairseq.data.captions.registry import CaptionSource, choose_reader
from mlvl_fairseq.data.captions.table import CaptionTable, TableBuilder
from mlvl_fairseq.errors import UserError

logger = logging.getLogger(__name__)


def read_captions(
    path,
    *,
    format: str = "auto",
    image_list: Optional[str] = None,
    english: Optional[str] = None,
    image_root: Optional[str] = None,
    check_images: bool = False,
    drop_duplicates: bool = False,
    on_problem: str = "skip",
    max_problems: Optional[int] = None,
) -> CaptionTable:
    """Read a caption file in any registered format, plain or gzip.

    Args:
        path: the caption file.
        format: ``"json"``, ``"coco"``, ``"triplet"``, ``"aligned"``, or ``"auto"`` to tell by content and name.
        image_list: (aligned) file with one image name a line; (coco) which images, see `CocoReader`.
        english: (aligned) file with one English sentence a line.
        image_root: folder that relative image names start from.
        check_images: leave out, and count, captions whose image is not a file under ``image_root``.
        drop_duplicates: leave out repetitions of the same caption of the same image; they are counted either way.
        on_problem: ``"skip"`` counts and leaves out captions that cannot be used; ``"error"`` raises at the first.
        max_problems: with ``"skip"``, raise when more captions than this cannot be used.

    Returns:
        the captions in file order; ``table.problems`` says what was wrong, and so does the log.

    Raises:
        UserError: options that do not go together.
        DataError: the file is absent, empty, damaged or not of the format; no usable caption; by policy.
    """
    if check_images and image_root is None:
        raise UserError("check_images needs an image root")
    source = CaptionSource(str(path), image_list and str(image_list), english and str(english))
    reader = choose_reader(source, format)
    field_paths = {field.removesuffix("_list"): file for field, file in source.companions().items()}
    rows = TableBuilder(source.path, Problems(on_problem, max_problems), reader.unit, field_paths)
    reader.read(source, rows)
    table = rows.table()
    if check_images:
        table = without_missing_images(table, image_root)
    table = count_duplicates(table, drop_duplicates)
    if table.problems:
        logger.warning("%s: %s", table.path, table.problems.summary())
    return table
