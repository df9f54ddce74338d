"""What `mlvl-*` commands share: error handling, exit statuses, types of options, named orders of languages, options
from dataclasses, options of models."""

import argparse
import dataclasses
import logging
import math
import os
import select
import signal
import sys
from functools import partial
from typing import Callable, Dict, List, Optional, Type, TypeVar, Union, get_args, get_type_hints

from mlvl_fairseq.codes import language_code
from mlvl_fairseq.errors import UserError, without_line_ends
from mlvl_fairseq.process.signals import on_stop_signal

logger = logging.getLogger(__name__)
Options = TypeVar("Options")
if not sys.stderr.isatty():  # in a log every change of a progress bar is a line; tqdm reads this when it is imported
    os.environ.setdefault("TQDM_MININTERVAL", "10")


def run(main: Callable[[Optional[List[str]]], Optional[int]], argv: Optional[List[str]] = None) -> None:
    """Run a command's ``main(argv)`` and turn its outcome into an exit status.

    Status 0: done. 1: finished, but something was found wrong. 2: the user gave something wrong
    (one line on stderr, no traceback). 130, 143: interrupted with Ctrl-C, or by SIGTERM. 141: who read its output,
    as ``head`` does, wanted no more of it.
    """
    logging.basicConfig(
        format="%(asctime)s | %(levelname)s | %(message)s", datefmt="%H:%M:%S", level=logging.INFO, stream=sys.stderr
    )
    name, signals = os.path.basename(sys.argv[0]), []

    def interrupt(number: int) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    try:
        with on_stop_signal(interrupt):
            status = _ended(main, argv)
            print(end="", flush=True)
    except (UserError, OSError) as error:
        status = 2
        if isinstance(error, BrokenPipeError) and _is_unread():
            status = 128 + signal.SIGPIPE
        else:
            print(f"{name}: error: {describe_error(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command continues where it stopped", file=sys.stderr)
        status = 128 + (signals or [signal.SIGINT])[0]
    _drop_unwritten()
    sys.exit(status)


def _ended(main: Callable[[Optional[List[str]]], Optional[int]], argv: Optional[List[str]]) -> Union[int, str, None]:
    """The status that a command ends with, also where argparse ends it."""
    try:
        return main(argv) or 0
    except SystemExit as ended:
        return ended.code


def _is_unread() -> bool:
    """Is standard output a pipe that nobody reads any more?"""
    output = select.poll()
    output.register(1, 0)
    return any(event & select.POLLERR for _, event in output.poll(0))


def _drop_unwritten() -> None:
    """What cannot be written to standard output goes nowhere: Python would complain of it at its end."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def tell_written(*paths) -> None:
    """Say which files a command wrote; None stands for one that was not asked for."""
    written = [str(path) for path in paths if path is not None]
    if written:
        logger.info("wrote %s", " ".join(written))


def describe_error(error: Exception) -> str:
    """One line; ``No space left on device: FILE`` instead of ``[Errno 28] ...``."""
    message = str(error)
    if isinstance(error, OSError):
        reason = error.strerror or message
        message = f"{reason}: {error.filename}" if error.filename else reason
    return without_line_ends(message)


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    return _whole_number(1, text)


def not_negative(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    return _whole_number(0, text)


def _whole_number(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
    return int(text)


def positive_number(text: str) -> float:
    """An argparse type: a finite number above 0."""
    return _number(text, "a positive number", lambda value: 0 < value < math.inf)


def share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    return _number(text, "a number from 0 to 1", lambda value: 0 <= value <= 1)


def _number(text: str, what: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text} is not {what}")
    return value


def add_dataclass_options(parser: argparse.ArgumentParser, dataclass: type) -> None:
    """A flag for every field: ``image_root`` is ``--image-root``. What fairseq has for its own parser, without fairseq.

    Args:
        dataclass: each field has ``help`` in its metadata and may have ``metavar``, ``choices`` (or a function that
            gives them), ``least`` (the smallest number allowed), ``group`` (the heading it stands under),
            ``languages`` (see `options_from`), ``repeated`` (a list of texts, one each time that it is given).
    """
    groups = {None: parser}
    types = get_type_hints(dataclass)
    for field in dataclasses.fields(dataclass):
        shown = {key: value for key, value in field.metadata.items() if key != "identity"}
        group = shown.pop("group", None)
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        groups[group].add_argument(f"--{field.name.replace('_', '-')}", **_argument(field, types[field.name], shown))


def _argument(field: dataclasses.Field, annotation, shown: dict) -> dict:
    """What argparse is told of one field."""
    default = None if field.default is dataclasses.MISSING else field.default
    if default not in (None, False, ""):
        shown["help"] += " (default: %(default)s)"
    if callable(shown.get("choices")):  # a registry's names
        shown["choices"] = shown["choices"]()
    least = shown.pop("least", None)
    kind = next((part for part in get_args(annotation) if part is not type(None)), annotation)  # of Optional[kind]
    if annotation is bool:
        return {"action": "store_true", **shown}
    if shown.pop("repeated", False):
        return {"action": "append", **shown}
    shown["type"] = str if shown.pop("languages", False) else kind if least is None else partial(_whole_number, least)
    return {"required": field.default is dataclasses.MISSING, "default": default, **shown}


def options_from(dataclass: Type[Options], args: argparse.Namespace) -> Options:
    """The dataclass that parsed flags stand for.

    Raises:
        UserError: no list of languages where one is expected.
    """
    values = {field.name: getattr(args, field.name) for field in dataclasses.fields(dataclass)}
    for field in dataclasses.fields(dataclass):
        if field.metadata.get("languages"):
            values[field.name] = language_order(values[field.name])
    return dataclass(**values)


_XM3600 = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)
# Orders in which languages are learned: the published ones, and that of the picture world.
ORDERS: Dict[str, str] = {
    "order1": _XM3600,
    "order222": (
        "en it de fil tr uk nl bn he fi sv quz fa mi fr el zh id sw no hi da te th pt ru ro pl hr es vi ar cs ko ja hu"
    ),
    # all languages of the picture world, shuffled; codes with q are constructed languages
    "order36": (
        "en qau qal qad qav ko es qat qaq pt ru qab qao hi qan qae zh qas qai qam qag qaa qac qap ja it fr qaj qaf ar "
        "de qar qah cs el qak"
    ),
}


def language_order(text: str) -> List[str]:
    """A named order, or the languages of a comma list.

    Raises:
        UserError: neither; what is no code of a language, or one twice.
    """
    languages = ORDERS[text].split() if text in ORDERS else [lang.strip() for lang in text.split(",") if lang.strip()]
    if len(languages) < 2 and text.strip() not in languages:
        raise UserError(f"'{text}' is no order: give {', '.join(ORDERS)} or languages as en,de,fr")
    for lang in languages:
        language_code(lang)
    twice = sorted({lang for lang in languages if languages.count(lang) > 1})
    if twice:
        raise UserError(f"order {text}: {', '.join(twice)} occurs more than once")
    return languages


def add_model_options(
    parser: argparse.ArgumentParser,
    checkpoint: str = "checkpoint of this plugin, official CLIP file or Hugging Face folder",
) -> None:
    """``--checkpoint``, ``--device``, and an option for every kind of frozen file."""
    parser.add_argument("--checkpoint", required=True, metavar="PATH", help=checkpoint)
    add_device_option(parser)
    add_frozen_options(parser)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", default="cpu", help="where to compute, e.g. cuda (default: %(default)s)")


def add_frozen_options(parser: argparse.ArgumentParser, prefix: str = "", whose: str = "a checkpoint") -> None:
    """An option for every kind of frozen file.

    Args:
        prefix: before the options' names, where a command has two models or options of the same names.
        whose: whose files they are, in words.
    """
    from mlvl_fairseq.inference.encoder import frozen_files

    group = parser.add_argument_group(f"frozen files of {whose}, if they were moved since it was trained")
    for name, about in frozen_files().items():
        group.add_argument(f"--{prefix}{name.replace('_', '-')}", metavar="PATH", help=about)


def frozen_from(args: argparse.Namespace, prefix: str = "") -> Dict[str, Optional[str]]:
    """What :func:`add_frozen_options` asked for, or would have: name -> path, None where the file is where it was."""
    from mlvl_fairseq.inference.encoder import frozen_files

    return {name: getattr(args, f"{prefix}{name}".replace("-", "_"), None) for name in frozen_files()}


def load_encoder(args: argparse.Namespace):
    """The model of :func:`add_model_options`.

    Raises:
        DataError: its file is missing, damaged, refused, or of no known format.
        UserError: frozen weights differ, or an option is not for this kind of model.
    """
    from mlvl_fairseq.inference.encoder import Encoder

    return Encoder.load(args.checkpoint, device=args.device, **frozen_from(args))
