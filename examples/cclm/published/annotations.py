"""Files of annotations where their data sets publish them."""

import glob
import os
import re
from collections import defaultdict
from typing import Dict, Mapping, NamedTuple, Sequence

from mlvl_fairseq.codes import language_code
from mlvl_fairseq.data.language_files import LANG
from mlvl_fairseq.errors import UserError

SHOTS = "{shots}"
PACKED = (".zip", ".gz")


class FewShot(NamedTuple):
    """The few examples of a language. Attributes: lang, shots: as the file is named by. path: of the file."""

    lang: str
    shots: str
    path: str


def datasets(iglue: str) -> str:
    """IGLUE's folder of data sets, in the folder that it was cloned to, or that folder itself."""
    inner = os.path.join(iglue, "datasets")
    return inner if os.path.isdir(inner) else iglue


def found(path: str, argument: str) -> str:
    """A file of annotations, as it is or as it is packed. Raises UserError: it is not there."""
    names = [path, *(path + ending for ending in PACKED), os.path.splitext(path)[0] + ".zip"]
    there = next(filter(os.path.isfile, names), None)
    if there is None:
        raise UserError(f"{path}: no such file, nor {os.path.basename(path)}.zip: mend the argument {argument}")
    return there


def few_shot(asked: str, template: str, shots: str, argument: str) -> FewShot:
    """What ``--fewshot LANG,SHOTS`` asks for.

    Args:
        asked: LANG, or LANG,SHOTS. template: of the file, with ``{lang}`` and ``{shots}``. shots: where none are said.

    Raises:
        UserError: there is no such language or number of examples; the message says which there are.
    """
    lang, _, number = asked.partition(",")
    there: Dict[str, list] = defaultdict(list)
    pattern = re.escape(template).replace(re.escape(LANG), r"([a-z-]+)").replace(re.escape(SHOTS), r"(\w+)")
    for path in sorted(glob.glob(glob.escape(template).replace(LANG, "*").replace(SHOTS, "*"))):
        match = re.fullmatch(pattern, path)
        if match:
            there[match[1]].append(match[2])
    if not there:
        raise UserError(f"{template}: no such file: mend the argument {argument}")
    if lang not in there:
        raise UserError(f"--fewshot {asked}: '{lang}' has no few-shot file; {', '.join(sorted(there))} have")
    number = number or shots
    if number not in there[lang]:
        ways = sorted(there[lang], key=lambda text: [int(part) for part in re.findall(r"\d+", text)])
        raise UserError(f"--fewshot {asked}: '{lang}' has files of {', '.join(ways)} examples, not {number}")
    return FewShot(language_code(lang), number, template.replace(LANG, lang).replace(SHOTS, number))


def one_pattern(paths: Mapping[str, str], folder: str, name: str) -> str:
    """A pattern with ``{lang}`` of the files of several languages; where their names have none in common, of links.

    Args:
        paths: language -> file. folder: for links, called ``NAME.LANG``.
    """
    first = next(iter(paths))
    for pattern in _patterns(paths[first], first):
        if all(pattern.replace(LANG, lang) == path for lang, path in paths.items()):
            return pattern
    os.makedirs(folder, exist_ok=True)
    for lang, path in paths.items():
        link = os.path.join(folder, f"{name}.{lang}")
        if os.path.lexists(link):
            os.remove(link)
        os.symlink(os.path.abspath(path), link)
    return os.path.join(folder, f"{name}.{LANG}")


def _patterns(path: str, lang: str) -> Sequence[str]:
    """The path, and the path with ``{lang}`` in each place where the code stands by itself."""
    places = [match.start() for match in re.finditer(rf"(?<![A-Za-z]){re.escape(lang)}(?![A-Za-z])", path)]
    return [path, *(path[:place] + LANG + path[place + len(lang) :] for place in reversed(places))]
