"""Ways to damage a file, one function each. Which ones a file can get follows from its content, not from its kind.

A function gets a :class:`Scene`, changes ``scene.path`` and says in a few words what it did.
"""

import gzip
import json
import os
import random
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import yaml

BOMB = 1 << 29  # bytes that a bomb inflates to
GZIP, NPY = b"\x1f\x8b", b"\x93NUMPY"
RAW = "@@raw@@"  # where a mutated tree gets text that no serializer would write


@dataclass(frozen=True)
class Scene:
    """A file to damage.

    Attributes:
        path: the file. outside: a path that nobody may write to. rng: what draws.
    """

    path: Path
    outside: Path
    rng: random.Random

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()


Mutate = Callable[[Scene], str]
Applies = Callable[[Path, bytes], bool]
MUTATIONS: Dict[str, Tuple[Applies, Mutate, int]] = {}


def mutation(applies: Applies, weight: int = 1) -> Callable[[Mutate], Mutate]:
    """Register a function for the files that `applies(path, content)` is true of; it is drawn `weight` times as often
    as one of weight 1."""

    def register(function: Mutate) -> Mutate:
        MUTATIONS[function.__name__] = (applies, function, weight)
        return function

    return register


def draw(path: Path, rng: random.Random) -> Tuple[str, Mutate]:
    """One of the mutations that a file can get. Structures are damaged as often as bytes and special files together."""
    content = path.read_bytes()
    fitting = [(name, *found[1:]) for name, found in MUTATIONS.items() if found[0](path, content)]
    name, function, _ = rng.choices(fitting, [weight for *_, weight in fitting])[0]
    return name, function


def any_file(path: Path, content: bytes) -> bool:
    return True


def is_text(path: Path, content: bytes) -> bool:
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False


def is_json(path: Path, content: bytes) -> bool:
    if content[:1] not in b"{[" or not content:
        return False
    try:
        return json.loads(content) is not None
    except ValueError:
        return False


def is_yaml(path: Path, content: bytes) -> bool:
    return path.suffix in (".yaml", ".yml")


def is_zip(path: Path, content: bytes) -> bool:
    return content.startswith(b"PK\x03\x04")


def is_torch(path: Path, content: bytes) -> bool:
    return is_zip(path, content) and b"/data.pkl" in content and b"/constants.pkl" not in content


def is_gzip(path: Path, content: bytes) -> bool:
    return content.startswith(GZIP)


# Bytes.
@mutation(any_file, 2)
def flip_bits(scene: Scene) -> str:
    data, count = bytearray(scene.data), scene.rng.choice((1, 1, 1, 2, 8))
    places = [scene.rng.randrange(8 * len(data)) for _ in range(count if data else 0)]
    for place in places:
        data[place // 8] ^= 1 << place % 8
    scene.path.write_bytes(data)
    return f"bits {places}"


@mutation(any_file, 2)
def truncate(scene: Scene) -> str:
    data = scene.data
    size = scene.rng.choice((0, 1, len(data) - 1, scene.rng.randrange(len(data) + 1), scene.rng.randrange(200)))
    scene.path.write_bytes(data[: max(size, 0)])
    return f"{size} of {len(data)} bytes"


@mutation(any_file)
def extend(scene: Scene) -> str:
    more = scene.rng.choice((b"\0", b"\0" * 4096, scene.rng.randbytes(1000), scene.data, b"\n", b"]", b"{}", b"\x80"))
    scene.path.write_bytes(scene.data + more)
    return f"{len(more)} bytes more"


@mutation(any_file)
def splice(scene: Scene) -> str:
    """A piece of the file, or noise, over another place of it."""
    data = bytearray(scene.data)
    size, source, target = (scene.rng.randrange(1, 300), scene.rng.randrange(len(data) + 1), 0)
    target = scene.rng.randrange(min(len(data), scene.rng.choice((100, 4000, len(data) or 1))) + 1)
    piece = data[source : source + size] if scene.rng.random() < 0.5 else scene.rng.randbytes(size)
    data[target : target + scene.rng.choice((0, size))] = piece
    scene.path.write_bytes(data)
    return f"{size} bytes at {target}"


@mutation(any_file)
def zeros(scene: Scene) -> str:
    data = bytearray(scene.data)
    start, size = scene.rng.randrange(len(data) + 1), scene.rng.choice((1, 16, 4096, len(data)))
    data[start : start + size] = bytes(len(data[start : start + size]))
    scene.path.write_bytes(data)
    return f"zeros at {start}, {size} bytes"


@mutation(any_file)
def other_content(scene: Scene) -> str:
    """What another kind of file holds."""
    contents = (
        b"", b"null", b"[]", b"{}", b"0", b"\n", b"PK\x05\x06" + bytes(18), GZIP, NPY, b"\xff\xfea\0", b"{" * 9999,
        b"\x80\x02}q\0.", gzip.compress(b"{}"), b"\x89PNG\r\n\x1a\n", b"a\tb\tc\n", b"\0" * 100, b"[" * 200_000,
    )  # fmt: skip
    content = scene.rng.choice(contents)
    scene.path.write_bytes(content)
    return f"{content[:20]!r}, {len(content)} bytes"


# Special files.
@mutation(any_file)
def special_file(scene: Scene) -> str:
    path, kinds = (
        scene.path,
        ["fifo", "/dev/zero", "/dev/full", "folder", "loop", "dangling", "missing", "sparse", "unreadable"],
    )
    kind = scene.rng.choice(kinds)
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    elif kind == "unreadable":
        path.write_bytes(b"x")
        path.chmod(0)
    elif kind != "missing":
        path.symlink_to({"loop": path.name, "dangling": "nothing here"}.get(kind, kind))
    return kind


# Text.
def _edit_lines(scene: Scene, edit: Callable[[List[str], int], Any]) -> None:
    lines = scene.data.decode("utf-8").split("\n")
    edit(lines, scene.rng.randrange(len(lines)))
    scene.path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))


@mutation(is_text, 3)
def edit_line(scene: Scene) -> str:
    edits: Dict[str, Callable[[List[str], int], Any]] = {
        "deleted": lambda lines, i: lines.pop(i),
        "doubled": lambda lines, i: lines.insert(i, lines[i]),
        "emptied": lambda lines, i: lines.__setitem__(i, ""),
        "a header": lambda lines, i: lines.insert(0, "image\tcaption"),
        "a column more": lambda lines, i: lines.__setitem__(i, lines[i] + "\tmore"),
        "tabs to spaces": lambda lines, i: lines.__setitem__(i, lines[i].replace("\t", " ")),
        "not UTF-8": lambda lines, i: lines.__setitem__(i, lines[i] + "\udcff\udcc3"),
        "control characters": lambda lines, i: lines.__setitem__(i, "\x00\x07\x1b[2J" + lines[i]),
        "line separators": lambda lines, i: lines.__setitem__(i, lines[i] + "\u2028\x85\r" + lines[i]),
        "a long word": lambda lines, i: lines.__setitem__(i, lines[i] + "x" * 200_000),
        "a long line": lambda lines, i: lines.__setitem__(i, lines[i] + "x " * 200_000),
        "a path outside": lambda lines, i: lines.__setitem__(i, f"{scene.outside}\t" + lines[i]),
        "only a path outside": lambda lines, i: lines.__setitem__(i, str(scene.outside)),
        "only a parent path": lambda lines, i: lines.__setitem__(i, "../../../outside/escape"),
        "a parent path": lambda lines, i: lines.__setitem__(i, "../../../outside/escape\t" + lines[i]),
        "a field of str.format": lambda lines, i: lines.__setitem__(i, "{0.__class__} %s {lang} {" + lines[i]),
        "a huge number": lambda lines, i: lines.__setitem__(i, lines[i] + " " + "9" * 5000),
        "combining marks": lambda lines, i: lines.__setitem__(i, "e" + "\u0301" * 5000),
        "other numbers": lambda lines, i: lines.__setitem__(i, lines[i].translate({ord("1"): "-1e999"})),
        "the whole again": lambda lines, i: lines.extend(lines[:]),
        "backwards": lambda lines, i: lines.reverse(),
    }  # fmt: skip
    name = scene.rng.choice(list(edits))
    _edit_lines(scene, edits[name])
    return name


@mutation(is_text)
def encode_otherwise(scene: Scene) -> str:
    encoding = scene.rng.choice(("utf-16", "utf-8-sig", "utf-16-le", "utf-7", "crlf", "cr", "utf-32"))
    text = scene.data.decode("utf-8")
    ends = {"crlf": "\r\n", "cr": "\r"}.get(encoding)
    scene.path.write_bytes(text.replace("\n", ends).encode() if ends else text.encode(encoding))
    return encoding


@mutation(is_text)
def gzip_instead(scene: Scene) -> str:
    data = gzip.compress(scene.data)
    scene.path.write_bytes(data[: scene.rng.choice((len(data), len(data) // 2, len(data) - 4))])
    return "gzip"


@mutation(lambda path, content: is_text(path, content) or is_gzip(path, content))
def gzip_bomb(scene: Scene) -> str:
    """One endless line, or endless lines, behind what is there."""
    head = gzip.decompress(scene.data) if is_gzip(scene.path, scene.data) else scene.data
    piece = scene.rng.choice((b"a", b"\0", b" ", b"a\tb\n", b"\n"))
    with open(scene.path, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(BOMB >> 20):
            file.write(piece * ((1 << 20) // len(piece)))
    return f"{BOMB >> 20} MiB of {piece!r}"


# Trees: JSON, YAML, what torch.save wrote.
HOSTILE: Tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, -(10**30), 0.5, float("nan"), float("inf"), -0.0, "", "text",
    "1", " ", "..", "../../../outside/escape", "/", "a/b", "{0.__class__}", "\ud800", "\0", "x" * 100_000, [], {}, [[]],
    [None], {"": None}, [1, 2, 3], ["a", "a"], {"a": {"a": {}}}, [1e308] * 3, ["../../../outside/escape"], "en", "-en",
    "--help", 1.5,
)  # fmt: skip
RAW_VALUES = (
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 50_000 + "1" + "}" * 50_000,
    "9" * 6000,
    "1e99999",
    "-0",
    "tru",
    "",
)


def _items(node: Any) -> List[Any]:
    if isinstance(node, Namespace):
        node = vars(node)
    return list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []


def _at(node: Any) -> Any:
    return vars(node) if isinstance(node, Namespace) else node


def mutate_tree(tree: Any, rng: random.Random, values: Callable[[Any], Any]) -> Tuple[Any, str]:
    """Change one node. The walk down may stop at every level, so that all levels are met.

    Args:
        values: gives what a node becomes, from what it was.
    """
    parent, key, node, place = None, None, tree, ""
    while _items(node) and (parent is None or rng.random() < 0.75) and not (parent is None and rng.random() < 0.05):
        parent, key = node, rng.choice(_items(node))
        node, place = _at(parent)[key], f"{place}.{key}"
    if parent is None:
        return values(tree), "the root"
    container, action = (
        _at(parent),
        rng.choice(("value", "value", "value", "value", "delete", "rename", "double", "move")),
    )
    if action == "delete":
        del container[key]
    elif action == "rename" and isinstance(container, dict):
        container[rng.choice(("../../../outside/escape", "", "x", "a/b", "..", "{x}", "en\n", "\ud800"))] = (
            container.pop(key)
        )
    elif action == "double" and isinstance(container, list):
        container.insert(0, node)
    elif action == "move":
        container[key] = container[rng.choice(_items(parent))]
    else:
        container[key] = values(node)
        return tree, f"{place} = {repr(container[key])[:60]}"
    return tree, f"{action} {place}"


CHANGES: Tuple[Callable[[Any], Any], ...] = (
    str,
    lambda value: [value],
    lambda value: {"x": value},
    lambda value: value * 2 if isinstance(value, (str, list)) else value,
    lambda value: value[:-1] if isinstance(value, (str, list)) else value,
    lambda value: value + 1 if isinstance(value, int) else value,
    lambda value: -value if isinstance(value, (int, float)) else value,
    lambda value: float(value) if isinstance(value, int) and abs(value) < 2**60 else value,
)


def plain_value(scene: Scene) -> Callable[[Any], Any]:
    hostile, rng = (*HOSTILE, str(scene.outside)), scene.rng
    return lambda value: rng.choice(CHANGES)(value) if rng.random() < 0.3 else rng.choice(hostile)


@mutation(is_json, 12)
def json_field(scene: Scene) -> str:
    tree = json.loads(scene.data)
    raw = scene.rng.choice(RAW_VALUES) if scene.rng.random() < 0.1 else None
    tree, what = mutate_tree(tree, scene.rng, plain_value(scene) if raw is None else lambda _: RAW)
    text = json.dumps(tree, ensure_ascii=bool(scene.rng.getrandbits(1)))
    text = text if raw is None else text.replace(f'"{RAW}"', raw)
    scene.path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what if raw is None else f"{what}: {raw[:10]}..., {len(raw)} characters"


YAML_VALUES = (
    "!!python/object/apply:os.system ['touch ../escape']", "&a [*a]", "[" * 3000, "${oc.env:HOME}", "${x.y.z}",
    "!!binary x", "!!set {a}", "2001-01-01", "? [a]",
    "{a: &x [1,1,1,1,1,1,1,1], b: &y [*x,*x,*x,*x,*x,*x,*x,*x], c: [*y,*y]}",
)  # fmt: skip


@mutation(is_yaml, 8)
def yaml_field(scene: Scene) -> str:
    raw = scene.rng.choice(YAML_VALUES) if scene.rng.random() < 0.4 else None
    values = plain_value(scene) if raw is None else lambda _: RAW
    tree, what = mutate_tree(yaml.safe_load(scene.data), scene.rng, values)
    text = yaml.safe_dump(tree, allow_unicode=True)
    text = text if raw is None else text.replace(RAW, raw)
    scene.path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what if raw is None else f"{what}: {raw[:40]}"


def _tensor_value(scene: Scene) -> Callable[[Any], Any]:
    import torch

    plain = plain_value(scene)
    tensors: Tuple[Callable[[Any], Any], ...] = (
        lambda t: t.to_sparse() if t.dim() else t,
        lambda t: t.to("meta"),
        lambda t: t.to(scene.rng.choice((torch.complex64, torch.bool, torch.int64, torch.double, torch.bfloat16))),
        lambda t: t.half(),
        lambda t: t[:0] if t.dim() else t,
        lambda t: t.reshape(-1),
        lambda t: t.reshape(1, *t.shape),
        lambda t: t.t().clone() if t.dim() == 2 else t,
        lambda t: t[..., :1],
        lambda t: torch.cat([t, t]) if t.dim() else t,
        lambda t: torch.zeros(1).expand(1 << 31),
        lambda t: torch.zeros(1, 1).expand(1 << 20, 1 << 12),
        lambda t: torch.zeros(scene.rng.choice(((), (0, 0, 0, 0), t.shape))),
        lambda t: t * scene.rng.choice((float("nan"), float("inf"))),
        lambda t: torch.nn.Parameter(t.float()),
        lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.quint8),
        lambda t: t.tolist() if t.numel() < 99 else [],
    )

    def value(old: Any) -> Any:
        return (
            scene.rng.choice(tensors)(old) if isinstance(old, torch.Tensor) and scene.rng.random() < 0.8 else plain(old)
        )

    return value


@mutation(is_torch, 12)
def torch_field(scene: Scene) -> str:
    import torch

    from mlvl_fairseq.checkpoints.safe_loading import load

    tree, what = mutate_tree(load(scene.path), scene.rng, _tensor_value(scene))
    legacy = scene.rng.random() < 0.15
    torch.save(tree, scene.path, _use_new_zipfile_serialization=not legacy)
    return f"{what}{' (legacy)' if legacy else ''}"


# What is never drawn, but asked for by name.
@mutation(lambda path, content: False)
def nothing(scene: Scene) -> str:
    """The control."""
    return "undamaged"


@mutation(lambda path, content: False)
def flip_one_bit(scene: Scene) -> str:
    """What a disk or a network does."""
    data = bytearray(scene.data)
    place = scene.rng.randrange(8 * len(data))
    data[place // 8] ^= 1 << place % 8
    scene.path.write_bytes(data)
    return f"bit {place} of {8 * len(data)}"
