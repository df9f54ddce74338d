"""The model card of an export: ``README.md`` of its folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.export.base import Export
from mlvl_fairseq.export.proof import PROOF, Proof
from mlvl_fairseq.files import write_text
from mlvl_fairseq.json_files import checked, read_object
from mlvl_fairseq.runs.folder import MANIFEST, read_run_manifest
from mlvl_fairseq.runs.result_folder import SETTINGS, read_scores_settings
from mlvl_fairseq.version import __version__

if TYPE_CHECKING:
    from mlvl_fairseq.inference import Encoder

CARD = "README.md"
SHOWN = ("r_mean", "txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "accuracy", "acc1", "acc5")
FAMILIES = {
    "clip": "a CLIP (Radford et al. 2021) whose vocabulary grows by languages (CLL-CLIP, Yang et al. 2024)",
    "trikd": "mCLIP: a multilingual text encoder and a CLIP in one space by TriKD (Chen et al. 2023)",
    "m2m": "linear layers from a multilingual text encoder to the space of a CLIP (M2M, Pasi 2026)",
    "mte": "a multilingual text encoder that learned to translate (MTE of mCLIP, Chen et al. 2023)",
    "dual_encoder": "a dual encoder of two pre-trained towers, aligned as in LilT (Khan and Fu 2023)",
    "cclm": "a CCLM (Zeng et al. 2023); formats of other programs hold its two towers, without the fusion encoder",
}


@dataclass(frozen=True)
class Scores:
    """Scores of one folder of ``mlvl-evaluate --output-dir``.

    Attributes:
        evaluator, split: of all of them. languages: language -> metric -> value, with ``signature``.
    """

    evaluator: str
    split: str
    languages: Dict[str, Dict[str, Any]]

    @classmethod
    def read(cls, folder, encoder: "Encoder") -> "Scores":
        """Raises UserError: there are none, or another model's. DataError: a file is damaged."""
        settings = read_scores_settings(folder)
        if settings is None:
            raise UserError(f"--scores {folder}: no folder of scores (mlvl-evaluate --output-dir)")
        if settings["model"] != encoder.fingerprint:
            raise UserError(f"--scores {folder} holds scores of another model than {encoder.source}")
        split, languages = str(settings["split"]), {}
        for path in sorted(Path(folder).glob(f"*.{split}.json")):
            if path.name != SETTINGS:
                languages[path.name.removesuffix(f".{split}.json")] = read_object(path)
        if not languages:
            raise UserError(f"--scores {folder} holds no finished scores")
        for lang, scores in languages.items():
            checked(scores.get("signature"), str, Path(folder) / f"{lang}.{split}.json", "signature")
        return cls(str(settings.get("evaluator")), split, languages)

    def table(self) -> List[str]:
        """Lines of Markdown."""
        metrics = [name for name in SHOWN if all(name in one for one in self.languages.values())]
        if not metrics:
            first = next(iter(self.languages.values()))
            metrics = [name for name, value in first.items() if isinstance(value, (int, float))]
        lines = [f"### {self.evaluator}, {self.split}", "", f"| language | {' | '.join(metrics)} |"]
        lines.append(f"|---|{'---|' * len(metrics)}")
        for lang, one in self.languages.items():
            lines.append(f"| {lang} | {' | '.join(f'{one[name]:.2f}' for name in metrics)} |")
        signatures = [f"- {lang}: `{one['signature']}`" for lang, one in self.languages.items()]
        return [*lines, "", "Signatures (compare only scores that have the same one):", "", *signatures, ""]


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, in words.

    Attributes:
        method: of training; None: nobody said. started_from: the weights it started from.
    """

    method: Optional[str] = None
    started_from: Optional[str] = None

    @classmethod
    def of(cls, path) -> "Origin":
        """What the run that a checkpoint stands in says; nothing of other files. Raises DataError: it is damaged."""
        manifest = Path(path).resolve().parent.parent / MANIFEST
        if not manifest.is_file():
            return cls()
        settings = read_run_manifest(manifest).settings
        started = settings.get("init_from")
        return cls(settings.get("method"), Path(started).name if isinstance(started, str) else None)


def write_card(
    export: Export,
    encoder: "Encoder",
    folder: Path,
    proof: Proof,
    licence: Optional[str] = None,
    scores: Optional[List[Scores]] = None,
    method: Optional[str] = None,
) -> None:
    """Write ``README.md``.

    Args:
        licence: of the weights that the model was made of, as the Hub names it; None: the card says that nobody said.
        scores: that it shows. method: how the model was trained; None: what its run says.
    """
    origin = Origin.of(encoder.source)
    method = method or origin.method
    about = FAMILIES.get(encoder.family, f"a network of the family {encoder.family}")
    lines = [_front_matter(export, encoder, licence), f"# {folder.name}", "", f"This is {about}."]
    lines += ["", f"- languages: {', '.join(encoder.languages) or 'see its training data'}"]
    if export.options.lang:
        lines.append(f"- exported for captions in: {export.options.lang}")
    lines.append(f"- method: {method or 'not said'}")
    if origin.started_from:
        lines.append(f"- started from: {origin.started_from}")
    lines.append(
        f"- vectors: {encoder.embed_dim} dimensions, **not normalised**; texts of at most {encoder.max_length} tokens"
    )
    if encoder.other_transform or encoder.network.preprocess is not None:
        lines.append(f"- pictures: {encoder.preprocess}")
    lines.append(f"- licence of the origin: {licence or 'not said: that of the weights it started from holds'}")
    lines.append(f"- weights: sha256 fingerprint `{encoder.fingerprint}`, exported by mlvl_fairseq {__version__}")
    lines += ["", "## Use", "", "```python", export.example(encoder, folder), "```", ""]
    lines += [f"{note}\n" for note in export.notes(encoder)]
    lines += ["## Proof", "", *(f"- {line}" for line in proof.lines()), "", f"The numbers are in `{PROOF}`.", ""]
    lines += ["## Scores", ""] + (
        [line for one in scores for line in one.table()] if scores else ["None were given.", ""]
    )
    write_text(folder / CARD, "\n".join(lines).rstrip("\n") + "\n")


def _front_matter(export: Export, encoder: "Encoder", licence: Optional[str]) -> str:
    lines = ["---", f"library_name: {export.library_name}"]
    if encoder.languages:
        lines += ["language:", *(f"- {_quoted(lang)}" for lang in encoder.languages)]
    lines += [f"license: {licence or 'other'}", "pipeline_tag: feature-extraction", "tags:", "- mlvl_fairseq"]
    return "\n".join([*lines, "---", ""])


def _quoted(lang: str) -> str:
    """YAML reads ``no`` as false."""
    return f"'{lang}'" if re.fullmatch("no|on|off|yes|y|n", lang) else lang
