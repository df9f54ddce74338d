"""How a tower gets the weights of a public file."""

from typing import Any, Callable, Dict, Set, Type

from mlvl_fairseq.checkpoints.check import check_tensors, without_values
from mlvl_fairseq.checkpoints.source import Tensors, WeightSource, fingerprint
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.base import Tower
from mlvl_fairseq.registry import import_modules

Reader = Callable[[WeightSource, Any], Tensors]
READERS: Dict[Type[Any], Reader] = {}
CLASSIFIERS: Set[Type[Any]] = set()
Resizing = Callable[[Tensors, Any, Any], Tensors]
RESIZINGS: Dict[Type[Any], Resizing] = {}


def register_tower_weights(config: Type[Any], of_classifiers: bool = False) -> Callable[[Reader], Reader]:
    """Decorator of a function ``(source, config) -> tensors`` in the names of the tower that `config` builds, such as
    an adapter-less tower has them; tables of positions fit the config. It raises DataError where the source is no file
    for such a tower, and tells what it left out. `of_classifiers`: such files hold the tower in its own names, and a
    classifier ``head``."""

    def register(reader: Reader) -> Reader:
        READERS[config] = reader
        if of_classifiers:
            CLASSIFIERS.add(config)
        return reader

    return register


def register_resizing(config: Type[Any]) -> Callable[[Resizing], Resizing]:
    """Decorator of a function ``(tensors, config, path) -> tensors`` that makes tables of positions of such a tower, in
    its own names, those of another size of pictures, which `config` says."""

    def register(resizing: Resizing) -> Resizing:
        RESIZINGS[config] = resizing
        return resizing

    return register


def resized(tensors: Tensors, config: Any, path) -> Tensors:
    """The tensors of a tower, by its own names, with tables of positions as `config` says.

    Args:
        path: of the file they are from, for messages.

    Raises:
        DataError: a table is no such.
    """
    _import_all()
    return RESIZINGS[type(config)](tensors, config, path) if type(config) in RESIZINGS else tensors


def read_tower(config: Any, path) -> Tensors:
    """The weights of a file, by the names of the tower that `config` builds.

    Args:
        path: a file or folder, see the modules of this folder.

    Raises:
        DataError: the file is missing, damaged, or of other dimensions. UserError: there is no reader for this kind of
            tower.
    """
    _import_all()
    name = type(without_values(config.build)).__name__
    if type(config) not in READERS:
        raise UserError(f"{path}: a {name} does not start from weights")
    tensors = READERS[type(config)](WeightSource(path), config)
    check_tensors(path, f"a {name} of these dimensions", config.build, tensors)
    return tensors


def load_tower(tower: Tower, config: Any, path) -> str:
    """Put the weights of a file into a tower. Adapters and appended blocks, which no such file has, stay fresh.

    Args:
        tower: what ``config.build()`` gave, with or without adapters and appended blocks.
        config: the dimensions it was built with. path: see :func:`read_tower`.

    Returns:
        sha256 (hex) of the tensors.

    Raises:
        DataError, UserError: see :func:`read_tower`.
    """
    tensors = read_tower(config, path)
    tower.load_state_dict(tensors, strict=False)
    return fingerprint(tensors)


def tower_of_classifiers(config: Any) -> bool:
    """Whether a classifier of such a tower, in the tower's own names, is a file that the tower starts from."""
    _import_all()
    return type(config) in CLASSIFIERS


def _import_all() -> None:
    import_modules(__package__)
