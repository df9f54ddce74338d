"""Columns of tables: told by a header or by what they hold, in every row; cells quoted as in CSV."""

import pytest

from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.errors import DataError, UserError

FILES = [f"n{n}.jpg" for n in range(20)]
URLS = [f"https://a.org/{n}.jpg?size=3" for n in range(20)]
IDS = [f"{n:06d}" for n in range(20)]
KEYS = [f"scene{chr(97 + n)}" for n in range(20)]
TEXTS = [f"Ein Bild, Nummer {n}." for n in range(10)] + [f"这里有{n}棵树。" for n in range(10)]
ENGLISH = [f"A picture, {n}." for n in range(20)]


def table(*columns, header=None):
    lines = ["\t".join(cells) for cells in zip(*columns)]
    return "\n".join(([header.replace(" ", "\t")] if header else []) + lines) + "\n"


def read(tmp_path, content, **options):
    path = tmp_path / "t"
    path.write_text(content, newline="")
    return read_captions(path, **options)


def pairs(read):
    return list(zip([read.images[row] for row in read.image_rows], read.captions))


@pytest.mark.parametrize("columns, header, images, english", [
    ((FILES, TEXTS), None, FILES, False),
    ((TEXTS, FILES), None, FILES, False),
    ((TEXTS, URLS), None, URLS, False),
    ((URLS, TEXTS), None, URLS, False),
    ((KEYS, TEXTS), None, KEYS, False),
    ((IDS, TEXTS), None, IDS, False),
    ((TEXTS, IDS), None, IDS, False),
    ((FILES, ENGLISH, TEXTS), None, FILES, True),
    ((FILES, IDS, TEXTS), None, FILES, False),
    ((IDS, FILES, TEXTS), None, FILES, False),
    ((FILES, TEXTS, URLS), None, FILES, False),
    ((IDS, TEXTS, URLS, FILES), None, FILES, False),
    ((FILES, TEXTS), "image caption", FILES, False),
    ((FILES, TEXTS), "Bild Beschreibung", FILES, False),
    ((KEYS, TEXTS), "image caption", KEYS, False),
    ((IDS, TEXTS), "id caption", IDS, False),
    ((TEXTS, URLS), "caption url", URLS, False),
    ((FILES, IDS, TEXTS), "image_name comment_number comment", FILES, False),
    ((TEXTS, ENGLISH, FILES), "caption english image", FILES, True),
    ((TEXTS, KEYS), "caption image", KEYS, False),
    ((FILES, ENGLISH, IDS, TEXTS), "image en id de", FILES, True),
])  # fmt: skip
def test_what_is_what(columns, header, images, english, tmp_path):
    found = read(tmp_path, table(*columns, header=header), lang="de", on_problem="error")
    assert pairs(found) == list(zip(images, TEXTS)) and not found.problems
    assert found.english == (ENGLISH if english else None)


@pytest.mark.parametrize("columns, message", [
    ((ENGLISH, TEXTS), "t: most of its image names are sentences, as 'A picture, 0.'"),
    ((TEXTS, KEYS), "t: most of its image names are sentences"),
    ((FILES, IDS), "t: no column holds captions .1: file names, 2: ids."),
    ((FILES, URLS), "t: no column holds captions .1: file names, 2: URLs."),
    ((FILES, FILES), "t: columns 1 and 2 each hold file names"),
    ((URLS, TEXTS, URLS), "t: columns 1 and 3 each hold URLs"),
    ((IDS, IDS, TEXTS), "t: columns 1 and 2 each hold ids, one of them the image's"),
    ((ENGLISH, TEXTS, FILES), "t: cannot tell which column is the caption .1: text, 2: text, 3: file names."),
    ((FILES, TEXTS, ENGLISH, TEXTS), "t:1: expected 2 .* or 3 .* columns, found 4"),
])  # fmt: skip
def test_what_stays_open_is_refused_with_the_option_that_decides(columns, message, tmp_path):
    with pytest.raises(DataError, match=message + ".*--captions-columns image="):
        read(tmp_path, table(*columns))


def test_the_option_decides(tmp_path):
    chosen = read(tmp_path, table(ENGLISH, TEXTS, FILES), columns="image=3,caption=2,english=1")
    assert pairs(chosen) == list(zip(FILES, TEXTS)) and chosen.english == ENGLISH
    named = read(tmp_path, table(KEYS, TEXTS, IDS, header="a b c"), columns="image=a,caption=b")
    assert pairs(named) == list(zip(KEYS, TEXTS))
    ids = read(tmp_path, table(KEYS, IDS), columns="image=1,caption=2")
    assert ids.captions == IDS
    with pytest.raises(DataError, match="--captions-columns image=4: there are columns 1 to 2"):
        read(tmp_path, table(KEYS, TEXTS), columns="image=4,caption=1")
    for wrong in ("2,1", "image=1", "image=1,image=2,caption=3", "picture=1,caption=2"):
        with pytest.raises(UserError, match="--captions-columns"):
            read(tmp_path, table(KEYS, TEXTS), columns=wrong)


@pytest.mark.parametrize("number", [0, 7, 19])
@pytest.mark.parametrize("image, caption, field, why", [
    (TEXTS[3], "x.jpg", "image", f"'{TEXTS[3]}' is no name of a file, as the column's others are"),
    ("scene", "x.jpg", "caption", "'x.jpg' is a file name, no caption"),
    ("x.jpg", URLS[3], "caption", f"'{URLS[3]}' is a URL, no caption"),
    (TEXTS[3], "Noch eins.", "image", f"'{TEXTS[3]}' is no name of a file, as the column's others are"),
])  # fmt: skip
def test_one_row_in_twenty(number, image, caption, field, why, tmp_path):
    files, texts = list(FILES), list(TEXTS)
    files[number], texts[number] = image, caption
    found = read(tmp_path, table(files, texts))
    assert found.captions == TEXTS[:number] + TEXTS[number + 1 :]
    assert found.problems.examples == {"wrong column": [f"{tmp_path}/t:{number + 1} field '{field}': {why}"]}
    with pytest.raises(DataError, match=f"t:{number + 1} field"):
        read(tmp_path, table(files, texts), on_problem="error")


def test_a_header_in_the_middle(tmp_path):
    parts = [table(FILES, TEXTS, header="image caption"), table(["z.jpg"], ["Z."], header="image caption")]
    found = read(tmp_path, "".join(parts))
    assert found.captions == [*TEXTS, "Z."]
    assert found.problems.examples == {"wrong column": [f"{tmp_path}/t:22: repeats the header"]}


QUOTED = {
    "doubled": (['"a ""red"" car"', "plain", '"""quoted"""'], ['a "red" car', "plain", '"quoted"']),
    "tab": (['"one\ttwo"', "b", "c"], ["one two", "b", "c"]),
    "line end": (['"one\ntwo"', "b", "c"], ["one two", "b", "c"]),
    "two line ends": (["a", '"one\r\ntwo\n""three"""', "c"], ["a", 'one two "three"', "c"]),
    "all": (['"a"', '"b"', '"c d"'], ["a", "b", "c d"]),
    "text": (['"Stop"', 'He said "no"', '"Go", he said'], ['"Stop"', 'He said "no"', '"Go", he said']),
    "begun": (['"Stop', "b", "c"], ['"Stop', "b", "c"]),
}


@pytest.mark.parametrize("name", QUOTED)
def test_quoted_cells(name, tmp_path):
    written, wanted = QUOTED[name]
    found = read(tmp_path, table(FILES[:3], written))
    assert pairs(found) == list(zip(FILES, wanted)) and found.problems.left_out == 0
    assert set(found.problems.counts) <= {"control characters"}


def test_quoted_names_and_captions(tmp_path):
    assert pairs(read(tmp_path, '"image"\t"caption"\r\n"a.jpg"\t"A ""b"""\r\n"c.jpg"\t"d"\r\n')) == [
        ("a.jpg", 'A "b"'),
        ("c.jpg", "d"),
    ]


def test_a_quotation_that_does_not_close(tmp_path):
    found = read(tmp_path, 'a.jpg\t"a ""red"" car"\nb.jpg\t"begun\nand not ended\nc.jpg\tlast\n')
    assert found.captions == ['a "red" car', "last"]
    why = "opens a quotation that does not close"
    assert found.problems.examples == {"wrong column count": [f"{tmp_path}/t:{line}: {why}" for line in (2, 3)]}


def test_ends_of_lines_and_of_the_file(tmp_path):
    found = read(tmp_path, "\ufeff" + table(FILES, TEXTS).replace("\n", "\r\n") + "\r\n\n \n")
    assert pairs(found) == list(zip(FILES, TEXTS)) and not found.problems
    strange = [f"{text}\u2028x\x0by\x0cz\x85\x1d" for text in TEXTS]
    found = read(tmp_path, table(FILES, strange))
    assert found.captions == [f"{text} x y z ".rstrip() for text in TEXTS] and found.problems.left_out == 0


@pytest.mark.parametrize("content", ["a\0.\0j\0p\0g\0\t\0x\0\n\0", "\0" * 100, "\ufeffa\tb\n"])
def test_text_of_two_bytes_a_letter(content, tmp_path):
    data = content.encode("utf-16") if content.startswith("\ufeff") else content.encode()
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(DataError, match="t:1: holds NUL bytes: UTF-16|t: is UTF-16 text"):
        read_captions(tmp_path / "t")


LONG = 10**5


@pytest.mark.parametrize("cell", ["7" * LONG + "é", "x" * LONG, "#1" * LONG, '"' * LONG, "a." * LONG + "é", "[" * LONG])
def test_long_cells_are_no_riddle(cell, tmp_path):
    """What is looked for in cells takes time in proportion to their length: else this takes minutes."""
    assert len(read(tmp_path, f"a.jpg\t{cell}\n" * 3)) == 3
    for content in (f"{cell}\tx\n", f"[{cell}\n", f'{{"a": {cell}\n'):
        with pytest.raises(DataError):
            read(tmp_path, content * 3, columns="image=2,caption=1", format="json")
