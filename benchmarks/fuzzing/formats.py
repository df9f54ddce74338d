"""Ways to damage files of a format of their own: zip archives and the pickles in them, arrays, other headers."""

import ast
import io
import json
import random
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from fuzzing.mutations import BOMB, NPY, Scene, is_zip, mutate_tree, mutation, plain_value

INDEX = b"MMIDIDX\x00\x00"


def is_npy(path: Path, content: bytes) -> bool:
    return content.startswith(NPY)


def has_pickle(path: Path, content: bytes) -> bool:
    return is_zip(path, content) and b"/data.pkl" in content


def is_safetensors(path: Path, content: bytes) -> bool:
    return path.suffix == ".safetensors"


def is_index(path: Path, content: bytes) -> bool:
    return content.startswith(INDEX)


def is_picture(path: Path, content: bytes) -> bool:
    return content.startswith(b"\x89PNG")


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


MEMBER_CHANGES: Dict[str, Callable[[str, bytes, str], List[Tuple[str, bytes]]]] = {
    "drop": lambda name, data, other: [],
    "double": lambda name, data, other: [(name, data), (name, data[::-1])],
    "rename": lambda name, data, other: [(name + "x", data)],
    "empty": lambda name, data, other: [(name, b"")],
    "deflate": lambda name, data, other: [(name, data)],
    "escape": lambda name, data, other: [("../../../outside/escape", data)],
    "half": lambda name, data, other: [(name, data[: len(data) // 2])],
    "swap": lambda name, data, other: [(other, data)],
}


@mutation(is_zip, 2)
def zip_members(scene: Scene) -> str:
    chosen, other = (scene.rng.choice(_members(scene)) for _ in range(2))
    action = scene.rng.choice(list(MEMBER_CHANGES))
    change = MEMBER_CHANGES[action]
    compression = zipfile.ZIP_DEFLATED if action == "deflate" else zipfile.ZIP_STORED
    _rewrite(scene, lambda name, data: change(name, data, other) if name == chosen else [(name, data)], compression)
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
        "a huge memo index": b"Nr\xff\xff\xff\x3f0",
        "a huge memo index in text": b"Np999999999999\n0",
        "a long string announced": b"X\xff\xff\xff\x7f",
        "long bytes announced": b"B\xff\xff\xff\x7f",
        "a long frame announced": b"\x95" + b"\xff" * 8,
        "many marks": b"(" * 100_000,
        "deep tuples": b")" + b"\x85" * 200_000 + b"0",
        "os.system": b"cos\nsystem\n(S'touch " + marker + b"'\ntR0",
        "builtins.eval": b"cbuiltins\neval\n(S'open(\"" + marker + b'", "w")\'\ntR0',
        "bytearray": b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR0",
        "a list that holds itself": b"]" + b"q\1h\1a" * 5,
        "a long integer": b"\x8b\x00\x00\x10\x00" + b"\x7f" * (1 << 20) + b"0",
    }
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
    own = header["shape"]
    shapes = (
        (), (-1,), (2**62, 2**62), (0,), (1 << 40, 2), (3, 3.0), (True, 2), ("a",), (2**70,), None, [1, 2], own[::-1],
        (*own, 1), own[:-1], tuple(n + 1 for n in own), tuple(n * 2 for n in own), (1,) * 70,
    )  # fmt: skip
    types = (
        "|O", "<f8", "<i8", "<f2", "<f4", ">f4", "<i4", "<c8", "|b1", "<U9", "<U999999999", "|V0", "|S5", "<M8[s]", "",
        "junk", None, 4, [("a", "<f4")], [("a", "|O")], ["a"], "i4,i4", "<f16", "('<f4', (1000000, 1000000))",
        {"names": ["a"]},
    )  # fmt: skip
    edits = (
        *[("shape", rng.choice(shapes)) for _ in range(2)],
        *[("descr", rng.choice(types)) for _ in range(2)],
        ("fortran_order", rng.choice((True, None, "x", 2))),
        ("more", 1),
        (0, 0),
    )
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
    tree, what = mutate_tree(json.loads(data[8 : 8 + length]), scene.rng, plain_value(scene))
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
    data = bytearray(scene.data)
    width, height = (scene.rng.choice((0, 1, 64, 10_000, 60_000, 2**31 - 1)) for _ in range(2))
    data[16:24] = struct.pack(">II", width, height)
    data[24:26] = scene.rng.choice((bytes(data[24:26]), b"\x10\0", b"\x01\0", b"\x08\3", b"\x10\6", b"\x40\2"))
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    scene.path.write_bytes(data)
    return f"{width} x {height}"
