"""Ways to damage a file, one function each. Which ones a file can get follows from its content, not from its kind.

A function gets a :class:`Scene`, changes ``scene.path`` and says in a few words what it did.
"""

import ast
import gzip
import io
import json
import os
import random
import struct
import zipfile
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import yaml

BOMB = 1 << 29  # bytes that a bomb inflates to
GZIP, NPY, INDEX = b"\x1f\x8b", b"\x93NUMPY", b"MMIDIDX\x00\x00"
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


def is_npy(path: Path, content: bytes) -> bool:
    return content.startswith(NPY)


def is_zip(path: Path, content: bytes) -> bool:
    return content.startswith(b"PK\x03\x04")


def is_torch(path: Path, content: bytes) -> bool:
    return is_zip(path, content) and b"/data.pkl" in content and b"/constants.pkl" not in content


def has_pickle(path: Path, content: bytes) -> bool:
    return is_zip(path, content) and b"/data.pkl" in content


def is_gzip(path: Path, content: bytes) -> bool:
    return content.startswith(GZIP)


def is_safetensors(path: Path, content: bytes) -> bool:
    return path.suffix == ".safetensors"


def is_index(path: Path, content: bytes) -> bool:
    return content.startswith(INDEX)


def is_picture(path: Path, content: bytes) -> bool:
    return content.startswith(b"\x89PNG")


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
    contents = (b"", b"null", b"[]", b"{}", b"0", b"\n", b"PK\x05\x06" + bytes(18), GZIP, NPY, b"\xff\xfea\0", b"{" * 9999,
                b"\x80\x02}q\0.", gzip.compress(b"{}"), b"\x89PNG\r\n\x1a\n", b"a\tb\tc\n", b"\0" * 100, b"[" * 200_000)  # fmt: skip
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
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, -(10**30), 0.5, float("nan"), float("inf"), -0.0, "", "text", "1", " ",
    "..", "../../../outside/escape", "/", "a/b", "{0.__class__}", "\ud800", "\0", "x" * 100_000, [], {}, [[]], [None], {"": None}, [1, 2, 3], ["a", "a"],
    {"a": {"a": {}}}, [1e308] * 3, ["../../../outside/escape"], "en", "-en", "--help", 1.5,
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


def _plain_value(scene: Scene) -> Callable[[Any], Any]:
    hostile = (*HOSTILE, str(scene.outside))
    changes = (str, lambda v: [v], lambda v: {"x": v}, lambda v: v * 2 if isinstance(v, (str, list)) else v,
               lambda v: v + 1 if isinstance(v, int) else v, lambda v: -v if isinstance(v, (int, float)) else v,
               lambda v: float(v) if isinstance(v, int) and abs(v) < 2**60 else v, lambda v: v[:-1] if isinstance(v, (str, list)) else v)  # fmt: skip
    return lambda value: scene.rng.choice(changes)(value) if scene.rng.random() < 0.3 else scene.rng.choice(hostile)


@mutation(is_json, 12)
def json_field(scene: Scene) -> str:
    tree = json.loads(scene.data)
    raw = scene.rng.choice(RAW_VALUES) if scene.rng.random() < 0.1 else None
    tree, what = mutate_tree(tree, scene.rng, _plain_value(scene) if raw is None else lambda _: RAW)
    text = json.dumps(tree, ensure_ascii=bool(scene.rng.getrandbits(1)))
    text = text if raw is None else text.replace(f'"{RAW}"', raw)
    scene.path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what if raw is None else f"{what}: {raw[:10]}..., {len(raw)} characters"


@mutation(is_yaml, 8)
def yaml_field(scene: Scene) -> str:
    tags = ("!!python/object/apply:os.system ['touch ../escape']", "&a [*a]", "[" * 3000, "${oc.env:HOME}", "${x.y.z}", "!!binary x",
            "!!set {a}", "2001-01-01", "? [a]", "{a: &x [1,1,1,1,1,1,1,1], b: &y [*x,*x,*x,*x,*x,*x,*x,*x], c: [*y,*y]}")  # fmt: skip
    raw = scene.rng.choice(tags) if scene.rng.random() < 0.4 else None
    tree, what = mutate_tree(
        yaml.safe_load(scene.data), scene.rng, _plain_value(scene) if raw is None else lambda _: RAW
    )
    text = yaml.safe_dump(tree, allow_unicode=True) if raw is None else yaml.safe_dump(tree).replace(RAW, raw)
    scene.path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what if raw is None else f"{what}: {raw[:40]}"


def _tensor_value(scene: Scene) -> Callable[[Any], Any]:
    import torch

    plain = _plain_value(scene)
    tensors: Tuple[Callable[[Any], Any], ...] = (
        lambda t: t.to_sparse() if t.dim() else t, lambda t: t.to("meta"), lambda t: t.to(torch.complex64), lambda t: t.bool(),
        lambda t: t.to(torch.int64), lambda t: t.half(), lambda t: t.double(), lambda t: t[:0] if t.dim() else t,
        lambda t: t.reshape(-1), lambda t: t.reshape(1, *t.shape), lambda t: t.t().clone() if t.dim() == 2 else t,
        lambda t: torch.zeros(1).expand(1 << 31), lambda t: torch.zeros(1, 1).expand(1 << 20, 1 << 12), lambda t: torch.tensor(0.0),
        lambda t: t * float("nan"), lambda t: t * float("inf"), lambda t: torch.nn.Parameter(t.float()), lambda t: t.to(torch.bfloat16),
        lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.quint8), lambda t: t[..., :1], lambda t: torch.cat([t, t]) if t.dim() else t,
        lambda t: torch.zeros(0, 0, 0, 0), lambda t: torch.zeros(t.shape), lambda t: t.tolist() if t.numel() < 99 else [],
    )  # fmt: skip

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


# Zip archives.
def _rewrite(scene: Scene, change: Callable[[str, bytes], Any], compression: int = zipfile.ZIP_STORED) -> None:
    """Write the archive again; `change` gives (name, content) pairs for every member."""
    with zipfile.ZipFile(io.BytesIO(scene.data)) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(scene.path, "w", compression) as new:
        for name, content in members:
            for changed, data in change(name, content):
                new.writestr(changed, data)


def _members(scene: Scene) -> List[str]:
    with zipfile.ZipFile(scene.path) as archive:
        return archive.namelist()


@mutation(is_zip, 2)
def zip_members(scene: Scene) -> str:
    chosen, action = (
        scene.rng.choice(_members(scene)),
        scene.rng.choice(("drop", "double", "rename", "empty", "deflate", "escape", "half", "swap")),
    )
    other = scene.rng.choice(_members(scene))
    changes = {
        "drop": lambda name, data: [], "double": lambda name, data: [(name, data), (name, data[::-1])],
        "rename": lambda name, data: [(name + "x", data)], "empty": lambda name, data: [(name, b"")],
        "deflate": lambda name, data: [(name, data)], "escape": lambda name, data: [("../../../outside/escape", data)],
        "half": lambda name, data: [(name, data[: len(data) // 2])], "swap": lambda name, data: [(other, data)],
    }  # fmt: skip
    compression = zipfile.ZIP_DEFLATED if action == "deflate" else zipfile.ZIP_STORED
    _rewrite(scene, lambda name, data: changes[action](name, data) if name == chosen else [(name, data)], compression)
    return f"{action} {chosen}"


@mutation(is_zip)
def zip_bomb(scene: Scene) -> str:
    """One member inflates to half a gibibyte."""
    chosen = scene.rng.choice(_members(scene))
    with zipfile.ZipFile(io.BytesIO(scene.data)) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(scene.path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for name, content in members:
            with new.open(name, "w", force_zip64=True) as file:
                file.write(content if name != chosen or name.endswith(("pkl", ".npy")) else b"")
                for _ in range(BOMB >> 20 if name == chosen else 0):
                    file.write(bytes(1 << 20))
    return chosen


@mutation(is_zip)
def zip_directory(scene: Scene) -> str:
    """A number in the central directory or at its end becomes another one."""
    data = bytearray(scene.data)
    start = data.find(b"PK\x01\x02")
    place = scene.rng.randrange(start, len(data) - 4)
    data[place : place + 4] = scene.rng.choice(
        (b"\xff\xff\xff\xff", bytes(4), b"\xff\xff\xff\x7f", scene.rng.randbytes(4))
    )
    scene.path.write_bytes(data)
    return f"4 bytes at {place}, {place - start} behind its start"


@mutation(has_pickle, 3)
def pickle_opcodes(scene: Scene) -> str:
    """The pickle begins with something costly or forbidden, or has an opcode changed."""
    marker = str(scene.outside).encode()
    heads = {
        "a huge memo index": b"Nr\xff\xff\xff\x3f0", "a huge memo index, text": b"Np999999999999\n0",
        "a long string announced": b"X\xff\xff\xff\x7f", "bytes announced": b"B\xff\xff\xff\x7f", "a frame": b"\x95" + b"\xff" * 8,
        "deep nesting": b"(" * 100_000 + b"0" * 0, "deep tuples": b")" + b"\x85" * 200_000 + b"0", "os.system": b"cos\nsystem\n(S'touch " + marker + b"'\ntR0",
        "builtins.eval": b"cbuiltins\neval\n(S'open(\"" + marker + b"\", \"w\")'\ntR0", "bytearray": b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR0",
        "list doubled": b"]" + b"q\1h\1a" * 5, "a long integer": b"\x8b\x00\x00\x10\x00" + b"\x7f" * (1 << 20) + b"0",
    }  # fmt: skip
    name = scene.rng.choice(("random bytes", *heads))

    def change(member: str, data: bytes):
        if not member.endswith("/data.pkl"):
            return [(member, data)]
        if name != "random bytes":
            return [(member, data[:2] + heads[name] + data[2:])]
        changed = bytearray(data)
        for _ in range(scene.rng.choice((1, 3))):
            changed[scene.rng.randrange(2, len(data))] = scene.rng.randrange(256)
        return [(member, bytes(changed))]

    _rewrite(scene, change)
    return name


# Arrays.
def _edit_header(content: bytes, rng: random.Random) -> Tuple[bytes, str]:
    """An .npy file with another header."""
    length = struct.unpack("<H", content[8:10])[0]
    header, body = ast.literal_eval(content[10 : 10 + length].decode("latin1")), content[10 + length :]
    shapes = ((), (-1,), (2**62, 2**62), (0,), (1 << 40, 2), (3, 3.0), (True, 2), ("a",), (2**70,), None, [1, 2], header["shape"][::-1],
              (*header["shape"], 1), header["shape"][:-1], tuple(n + 1 for n in header["shape"]), tuple(n * 2 for n in header["shape"]), (1,) * 70)  # fmt: skip
    types = ("|O", "<f8", "<i8", "<f2", "<f4", ">f4", "<i4", "<c8", "|b1", "<U9", "<U999999999", "|V0", "|S5", "<M8[s]", "", "junk", None, 4,
             [("a", "<f4")], [("a", "|O")], ["a"], "i4,i4", "<f16", "('<f4', (1000000, 1000000))", {"names": ["a"]})  # fmt: skip
    edits = (
        ("shape", rng.choice(shapes)), ("shape", rng.choice(shapes)), ("descr", rng.choice(types)), ("descr", rng.choice(types)),
        ("fortran_order", rng.choice((True, None, "x", 2))), ("more", 1), (0, 0),
    )  # fmt: skip
    key, value = rng.choice(edits)
    text = repr({**header, key: value})
    text = rng.choice(
        (
            text,
            text,
            text,
            text,
            text,
            text[:-1],
            "[" * 5000,
            text + "x",
            "__import__('os')",
            "{}",
            "9" * 5000,
            "{" + "(" * 3000,
        )
    )
    raw = text.encode()
    size = rng.choice((len(raw),) * 8 + (len(raw) + 99, 0, 65535))
    version = rng.choice((b"\1\0",) * 8 + (b"\2\0", b"\3\0", b"\x09\0"))
    packed = struct.pack("<H" if version == b"\1\0" else "<I", min(size, 65535))
    return NPY + version + packed + raw + body, f"version {version[0]}, length {size}, {text[:80]}"


def _edit_numbers(content: bytes, rng: random.Random) -> Tuple[bytes, str]:
    array = np.load(io.BytesIO(content)).copy()
    values = (
        (0, -1, 1, 2**31 - 1, -(2**31), 99999)
        if array.dtype.kind in "iu"
        else (np.nan, np.inf, -np.inf, 0.0, 1e30, -1.0)
    )
    value, flat = rng.choice(values), array.reshape(-1)
    count = rng.choice((1, 1, max(1, flat.size // 2), flat.size))
    with np.errstate(over="ignore"):
        flat[[rng.randrange(flat.size) for _ in range(count if flat.size else 0)]] = np.array(value).astype(array.dtype)
    file = io.BytesIO()
    np.save(
        file,
        rng.choice(
            (array, array, array[:-1], array[::-1], array.T.copy(), np.asfortranarray(array), array.astype(">f4"))
        ),
    )
    return file.getvalue(), f"{count} numbers = {value}"


@mutation(is_npy, 8)
def npy_header(scene: Scene) -> str:
    data, what = _edit_header(scene.data, scene.rng)
    scene.path.write_bytes(data)
    return what


@mutation(is_npy, 4)
def npy_numbers(scene: Scene) -> str:
    data, what = _edit_numbers(scene.data, scene.rng)
    scene.path.write_bytes(data)
    return what


@mutation(lambda path, content: path.suffix == ".npz", 6)
def npz_member(scene: Scene) -> str:
    chosen, edit = scene.rng.choice(_members(scene)), scene.rng.choice((_edit_header, _edit_numbers))
    said = []

    def change(name: str, data: bytes):
        if name != chosen:
            return [(name, data)]
        data, what = edit(data, scene.rng)
        said.append(f"{name}: {what}")
        return [(name, data)]

    _rewrite(scene, change, zipfile.ZIP_DEFLATED)
    return said[0]


# Other headers.
@mutation(is_safetensors, 10)
def safetensors_header(scene: Scene) -> str:
    data = scene.data
    length = struct.unpack("<Q", data[:8])[0]
    tree, what = mutate_tree(json.loads(data[8 : 8 + length]), scene.rng, _plain_value(scene))
    header = json.dumps(tree).encode("utf-8", "surrogatepass")
    size = scene.rng.choice((len(header),) * 6 + (0, 2**63, len(header) - 1, len(data) * 2))
    scene.path.write_bytes(struct.pack("<Q", size) + header + data[8 + length :])
    return f"{what}, length {size} of {len(header)}"


@mutation(is_index, 10)
def index_numbers(scene: Scene) -> str:
    """A length, a place, or a number of the header of a fairseq index."""
    data = bytearray(scene.data)
    place = scene.rng.choice((9, 17, 18, *range(26, len(data) - 8, 4)))
    value = scene.rng.choice((0, 1, 255, 2**31 - 1, 2**32 - 1, 2**40, 2**63))
    size = 1 if place == 17 else scene.rng.choice((4, 8))
    data[place : place + size] = (value & (256**size - 1)).to_bytes(size, "little")
    scene.path.write_bytes(data)
    return f"{value} at {place}"


@mutation(is_picture, 3)
def picture_size(scene: Scene) -> str:
    """A PNG that says it is larger, or of another kind."""
    import zlib

    data = bytearray(scene.data)
    width, height = (scene.rng.choice((0, 1, 64, 10_000, 60_000, 2**31 - 1)) for _ in range(2))
    data[16:24] = struct.pack(">II", width, height)
    data[24:26] = scene.rng.choice((bytes(data[24:26]), b"\x10\0", b"\x01\0", b"\x08\3", b"\x10\6", b"\x40\2"))
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    scene.path.write_bytes(data)
    return f"{width} x {height}"


@mutation(lambda path, content: False)
def nothing(scene: Scene) -> str:
    """The control."""
    return "undamaged"
