"""What a part of a world was written with: a manifest marks its folder."""

from pathlib import Path
from typing import Any, Dict

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import read_json


def claim(manifest: Path, wanted: Dict[str, Any], what: str, made: str = "write") -> None:
    """Mark a new folder as one of these settings, or make sure that it is one already.

    Args:
        manifest: the file. wanted: the settings. what: is in the folder, by name. made: how, as a verb.

    Raises:
        UserError: it is one of other settings. DataError: the manifest is damaged.
    """
    if not manifest.exists():
        manifest.parent.mkdir(parents=True, exist_ok=True)
        write_json(manifest, wanted)
    elif read_json(manifest, Dict[str, Any], f"delete the folder and {made} the {what} again") != wanted:
        raise UserError(f"{manifest.parent} holds other {what} than those of {wanted}; choose a new folder")
