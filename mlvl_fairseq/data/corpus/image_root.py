"""Where a corpus's images are: not part of its contents, so that it can be changed."""

from pathlib import Path
from typing import Dict

from mlvl_fairseq.data.corpus.corpus import MANIFEST, Corpus
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.process.locks import locked


def checked_image_root(image_root, first_images: Dict[str, str]) -> str:
    """The absolute path of a folder of images.

    Args:
        image_root: the folder.
        first_images: an image name of each split, which must be in it.

    Raises:
        UserError: one is not.
    """
    root = Path(image_root).resolve()
    for split, name in first_images.items():
        if not (root / name).is_file():
            raise UserError(
                f"--image-root {image_root}: there is no {root / name}, the first image of the {split} split; give the "
                "folder that image names start from (--check-images leaves out captions of missing images)"
            )
    return str(root)


def set_image_root(corpus: Corpus, image_root) -> Corpus:
    """Let a corpus look for its images elsewhere.

    Raises:
        UserError: its images are not there.
    """
    root = checked_image_root(image_root, {split: corpus.images(split)[0] for split in corpus.manifest["splits"]})
    with locked(corpus.folder):
        write_json(corpus.folder / MANIFEST, {**Corpus(corpus.folder).manifest, "image_root": root})
    return Corpus(corpus.folder)
