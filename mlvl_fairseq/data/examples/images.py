"""Images of examples: which names they have below the image root, and what is opened there; or features of them that a
frozen network has computed."""

import string
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from PIL import Image

from mlvl_fairseq.data.data_files import refuse_remote
from mlvl_fairseq.data.feature_arrays import map_grids, read_row_names
from mlvl_fairseq.data.image_names import ImageFolder, image_name, is_outside
from mlvl_fairseq.data.images.reading import load_image
from mlvl_fairseq.errors import DataError, UserError


@dataclass
class ExampleImageOptions:
    """Options of tasks and commands that read examples: where their images are."""

    image_root: str = field(
        default="",
        metadata={"help": "folder of the images; below it they are looked for as the data set publishes them"},
    )
    image_name: str = field(
        default="",
        metadata={
            "help": "how an image is called below --image-root, e.g. flickr30k-images/{image}.jpg; {image}: as the "
            "file of examples has it, {name}: without its folders; empty: whichever published layout is there"
        },
    )
    image_features: str = field(
        default="",
        metadata={
            "help": "FILE.npy [images, positions, dimensions]: what a frozen network gives for the images, which are "
            "not read then; FILE.txt has their names, one a line"
        },
    )


class ExampleImages:
    """Image name -> what a network takes of it.

    Args:
        options: :class:`ExampleImageOptions`; they can be a task's.

    Attributes:
        where: the folder, or the list of names, for messages.
        shape: of given features of one image, ``(positions, dimensions)``; None: there are pictures.

    Raises:
        UserError: options do not go together. DataError: the features are missing or damaged.
    """

    def __init__(self, options: ExampleImageOptions):
        root, features = options.image_root, options.image_features
        refuse_remote(root, "--image-root")
        refuse_remote(features, "--image-features")
        if not root and not features:
            raise UserError("say where the images are: --image-root FOLDER, or --image-features FILE.npy")
        self.template = options.image_name
        self.folder, self.features = ImageFolder(root) if root else None, None
        self.where = root
        if features:
            if not features.endswith(".npy"):
                raise UserError(f"--image-features {features}: give an .npy file")
            self.features = map_grids(features)
            self.where = f"{features.removesuffix('.npy')}.txt"
            self._rows = read_row_names(self.where)

    @property
    def shape(self) -> Optional[Tuple[int, int]]:
        return None if self.features is None else tuple(self.features.shape[1:])

    def missing(self, names: Sequence[str]) -> np.ndarray:
        """Rows (int64, ascending) of the names that there is no image for."""
        if self.features is None:
            return self.folder.missing(names)
        return np.flatnonzero([name not in self._rows for name in names])

    def open(self, name: str) -> Union[Image.Image, torch.Tensor]:
        """A picture of any mode; or given features float32 [positions, dimensions].

        Raises:
            DataError: it cannot be read.
        """
        if self.features is not None:
            return torch.from_numpy(np.array(self.features[self._rows[name]], np.float32))
        return load_image(self.folder.path(name), None)

    def named(self, images: Sequence[Mapping[str, str]], layouts: Sequence[str], path: str) -> List[str]:
        """Names of images below the root: by the template that is given, or by the layout that most of them are there
        with.

        Args:
            images: what each name is made of, see :class:`ExampleReader`. layouts: of the format. path: for messages.

        Raises:
            UserError: the template has fields that the format does not. DataError: none of the images is there.
        """
        layouts = [self.template] if self.template else layouts
        fewest, best = len(images) + 1, []
        for layout in layouts:
            names = fill(layout, images, path)
            absent = len(self.missing(names))
            if absent < fewest:
                fewest, best = absent, names
            if not absent:
                break
        if images and fewest == len(images):
            tried = ", ".join(repr(fill(layout, images[:1], path)[0]) for layout in layouts)
            raise DataError(
                f"none of its images is in {self.where}; the first would be {tried}: mend --image-root, or say with "
                "--image-name how they are called there",
                path,
            )
        return best


def fill(template: str, images: Sequence[Mapping[str, str]], path: str) -> List[str]:
    """Names by a template, such as ``flickr30k-images/{image}.jpg``.

    Raises:
        UserError: it has other fields than the images, or is none.
    """
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UserError(f"--image-name {template}: {error}") from None
    known = _with_parts(images[0]) if images else {}
    for name in fields:
        if images and name not in known:
            there = ", ".join(f"{{{field}}}" for field in sorted(known))
            raise UserError(f"--image-name {template}: images of {path} have no {{{name}}}; there are {there}")
    return [image_name(template.format_map(_with_parts(image))) for image in images]


def _with_parts(image: Mapping[str, str]) -> Dict[str, str]:
    whole = image["image"].strip()
    return {**image, "image": whole, "name": PurePosixPath(whole).name, "below": whole.removeprefix("images/")}


def leaves_root(name: str) -> bool:
    """Whether a name is empty or leads out of the image root."""
    return not name or is_outside(name)
