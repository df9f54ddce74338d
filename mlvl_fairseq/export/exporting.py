"""One export from begin to end: files, proof, model card."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Sequence

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.export.base import Export
from mlvl_fairseq.export.card import CARD, Scores, write_card
from mlvl_fairseq.export.proof import PROOF, Proof, prove
from mlvl_fairseq.export.quiet import quiet
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import read_object
from mlvl_fairseq.process.locks import writing

if TYPE_CHECKING:
    from mlvl_fairseq.inference import Encoder


def export_model(
    export: Export,
    encoder: "Encoder",
    folder: Path,
    scores: Sequence[str] = (),
    licence: Optional[str] = None,
    method: Optional[str] = None,
) -> Proof:
    """Write an export, prove it, and write its card.

    Args:
        folder: new, empty, or one of an earlier export. scores: folders of ``mlvl-evaluate --output-dir``.
        licence, method: see :func:`write_card`.

    Raises:
        UserError: the network does not fit the format, a package is missing that writes it, the folder holds something
            else, scores are another model's, or the export gives other numbers.
        DataError: a file cannot be read or written.
    """
    export.require_fit(encoder)
    _require_installed(export)
    _require_own(folder, export)
    shown = [Scores.read(path, encoder) for path in scores]
    preprocess = encoder.network.preprocess
    samples = export.samples(None if preprocess is None else preprocess.size)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD).unlink(missing_ok=True)
        # Until there is a proof: whose folder it is, so that what is interrupted can be run again.
        write_json(folder / PROOF, {"format": export.name, "proven": False})
        with quiet():
            export.write(encoder, folder)
            proof = prove(export, encoder, folder, samples)
        write_card(export, encoder, folder, proof, licence, shown, method)
    return proof


def _require_installed(export: Export) -> None:
    absent = [name for name in export.needs if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(f"{export.name} is written with {' and '.join(absent)}: pip install 'mlvl_fairseq[export]'")


def _require_own(folder: Path, export: Export) -> None:
    """Raises UserError: there is something else than an earlier export to the same format. DataError: its proof is
    damaged."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder to write to")
    others = [path for path in folder.glob("*") if not path.name.startswith(".")] if folder.exists() else []
    if others and not (folder / PROOF).exists():
        raise UserError(f"{folder} holds other files, such as {others[0].name}: give a new folder")
    found = read_object(folder / PROOF).get("format") if others else export.name
    if found != export.name:
        raise UserError(f"{folder} holds an export to {found}: give a new folder")
