"""The server: what it answers, whom it refuses, and that it gives nothing away."""

import io
import os
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from drawn_photos import NAMES, draw
from PIL import Image

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.search.marks import take_out
from mlvl_fairseq.search.query import Query
from mlvl_fairseq.search.searcher import Searcher
from mlvl_fairseq.search.serving import server
from mlvl_fairseq.search.serving.options import ServeOptions

testclient = pytest.importorskip("starlette.testclient", reason="needs the extra [search]: starlette, uvicorn")
pytest.importorskip("uvicorn", reason="needs the extra [search]: starlette, uvicorn")
app = pytest.importorskip("mlvl_fairseq.search.serving.app")

PAGE_FILES = sorted((Path(server.__file__).parent / "page").iterdir())
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def client_of(searcher, name="127.0.0.1", **options):
    application = app.make_app(searcher, ServeOptions(**options))
    return testclient.TestClient(application, base_url=f"http://{name}:8000", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def searcher(standing, model):
    return Searcher(standing, model)


@pytest.fixture(scope="module")
def client(searcher):
    """Of an index that stands."""
    return client_of(searcher, max_upload=1)


@pytest.fixture
def own_client(index, model):
    """Of an index that the test may change."""
    return client_of(Searcher(index, model))


def png(seed, size=(40, 30), **options):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def rows(answer):
    assert answer.status_code == 200, answer.text
    return [result["row"] for result in answer.json()["results"]]


def test_the_page_comes_from_here_only(client):
    assert {path.name for path in PAGE_FILES} == {"index.html", "page.css", "page.js", "icon.svg"}
    for path in PAGE_FILES:
        answer = client.get("/" if path.suffix == ".html" else f"/{path.name}")
        assert answer.status_code == 200 and answer.content == path.read_bytes()
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.", text)
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/page.js").headers["content-type"].startswith("text/javascript")
    html = PAGE_FILES[1].read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", html)  # which the policy would block


def test_the_same_pictures_are_found_as_in_python(client, searcher):
    photos = searcher.folder.parent / "photos"
    expected = searcher.search(Query("dogs", ["snow"]), 8)
    answer = client.get("/api/search", params={"q": "dogs -snow"})
    assert rows(answer) == expected.rows
    found = answer.json()
    assert [result["score"] for result in found["results"]] == [round(score, 4) for score in expected.scores]
    assert [found["unwanted"], found["pictures"], found["more"], found["exact"]] == [["snow"], 8, False, True]
    assert rows(client.get("/api/search", params={"q": "dogs -snow", "start": 5})) == expected.rows[5:]
    assert rows(client.get("/api/search", params={"like": 3})) == searcher.search(Query(like=3), 8).rows
    uploaded = client.post("/api/search", content=(photos / "b.jpg").read_bytes())
    assert rows(uploaded)[0] == NAMES.index("b.jpg") and uploaded.json()["results"][0]["name"] == "b.jpg"
    both = client.post("/api/search?q=dogs", content=(photos / "b.jpg").read_bytes())
    assert rows(both) == searcher.search(Query("dogs", picture=photos / "b.jpg"), 8).rows


def test_many_results_come_in_pages(client, monkeypatch):
    monkeypatch.setattr(app, "PAGE", 3)
    pages = [client.get("/api/search", params={"q": "dogs", "start": start}).json() for start in (0, 3, 6)]
    assert [len(page["results"]) for page in pages] == [3, 3, 2]
    assert [page["more"] for page in pages] == [True, True, False]


@pytest.mark.parametrize(
    "query, status, said",
    [
        ({}, 400, "say what is searched for"),
        ({"q": "x" * 1001}, 400, "at most 1000 characters"),
        ({"like": "../1"}, 400, "like is no number"),
        ({"like": "9"}, 400, "the index has no picture 9"),
        ({"q": "dog", "start": "-1"}, 400, "start is no number"),
        ({"q": "dog", "start": "1000"}, 400, "at most 1000 results"),
        ({"q": "dog", "start": "²"}, 400, "start is no number"),
    ],
)
def test_wrong_queries_are_one_line_without_paths(client, standing, query, status, said):
    answer = client.get("/api/search", params=query)
    assert answer.status_code == status and said in answer.json()["error"]
    assert str(standing.parent) not in answer.text


def test_some_pictures_of_the_whole_index_are_named(own_client, index, monkeypatch):
    monkeypatch.setattr(app, "SOME", 3)
    assert own_client.get("/api/status").json()["some"] == [0, 2, 5]
    take_out(index, ["a.png", "sub/*"])
    assert own_client.get("/api/status").json()["some"] == [1, 2, 3]
    take_out(index, ["c.png", "d.png"])
    assert own_client.get("/api/status").json()["some"] == [1, 4]


def test_a_language_is_asked_for_where_the_model_needs_it(client, model, monkeypatch):
    encoder = type(model.encoder)
    monkeypatch.setattr(encoder, "own_languages", ["en", "de"])
    assert client.get("/api/status").json()["needs_language"] is True
    for lang in ("", "/etc"):
        answer = client.get("/api/search", params={"q": "dog", "lang": lang})
        assert answer.status_code == 400 and "choose one of en, de" in answer.json()["error"]


def test_uploads_are_bounded_and_not_kept(client, standing, tmp_path, monkeypatch):
    before = {*standing.parent.rglob("*"), *tmp_path.rglob("*")}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    written = []

    def watched(path, mode="r", *rest, **options):
        written.extend([path] if set(mode) & set("wax+") else [])
        return io.open(path, mode, *rest, **options)

    monkeypatch.setattr("builtins.open", watched)
    assert rows(client.post("/api/search", content=png(0)))
    assert {*standing.parent.rglob("*"), *tmp_path.rglob("*")} == before
    assert not written
    large = os.urandom((1 << 20) + 1)
    for content in (large, iter([large[: 1 << 19], large[: 1 << 19], b"x"])):  # said before, and found out
        answer = client.post("/api/search", content=content)
        assert (answer.status_code, answer.json()["error"]) == (413, "a picture may have 1 MiB; make it smaller")
    for content, said in ((b"", "no picture in the request"), (b"<svg/>", "cannot be decoded")):
        answer = client.post("/api/search", content=content)
        assert answer.status_code == 400 and said in answer.json()["error"]


def test_a_picture_that_inflates_is_refused(client, monkeypatch):
    monkeypatch.setattr(app, "UPLOAD_PIXELS", 1000)
    answer = client.post("/api/search", content=png(0))
    assert answer.status_code == 400 and "1200 pixels" in answer.json()["error"].replace("40 x 30", "1200")


def test_pictures_are_shown_anew_and_upright(own_client, photos, update, index):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"  # turned to the right; its maker
    Image.fromarray(np.full((100, 700, 3), (200, 0, 0), np.uint8)).save(photos / "turned.jpg", exif=exif)
    clear = Image.new("RGBA", (30, 20), (0, 0, 0, 0))
    clear.save(photos / "clear.png")
    update(index, photos)
    turned, shown = own_client.get("/thumb/9"), own_client.get("/thumb/8")
    image = Image.open(io.BytesIO(turned.content))
    assert (turned.headers["content-type"], image.format, image.size) == ("image/jpeg", "JPEG", (51, 360))
    assert not image.getexif() and b"camera" not in turned.content
    assert Image.open(io.BytesIO(own_client.get("/picture/9").content)).size == (100, 700)
    assert Image.open(io.BytesIO(shown.content)).getpixel((5, 5)) == (255, 255, 255)


def test_pictures_go_by_number_and_those_that_are_gone_are_not_there(own_client, photos, index):
    assert own_client.get("/thumb/0").status_code == 200
    take_out(index, ["a.png"])
    (photos / "b.jpg").unlink()
    for address in ("/thumb/0", "/thumb/1", "/picture/8", "/picture/-1"):
        answer = own_client.get(address)
        assert answer.status_code == 404 and str(photos.parent) not in answer.text
    for address in ("/picture/c.png", "/picture/%2e%2e%2findex.json", "/index.json", "/page/page.js", "/thumb/2.0"):
        assert own_client.get(address).status_code == 404


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_this_machine_s_own_names_will_do(searcher, name):
    assert client_of(searcher, name).get("/api/status").status_code == 200


@pytest.mark.parametrize("name", ["evil.example", "192.168.0.7", "127.0.0.1.evil.example", "localhost.evil.example"])
def test_other_hosts_are_refused(searcher, name):
    answer = client_of(searcher, name).get("/thumb/0")
    assert answer.status_code == 421 and f"--allow-host {name}" in answer.json()["error"]


def test_hosts_can_be_allowed(searcher):
    assert client_of(searcher, "photos.example", allow_host=["Photos.example"]).get("/").status_code == 200
    assert client_of(searcher, "192.168.0.7", host="0.0.0.0").get("/").status_code == 200
    assert client_of(searcher, "evil.example", host="0.0.0.0").get("/").status_code == 421
    assert client_of(searcher).get("/", headers=[("host", "127.0.0.1"), ("host", "127.0.0.1")]).status_code == 421


def test_other_sites_are_refused(client):
    cross = {"sec-fetch-site": "cross-site"}
    assert client.get("/api/search?q=dog", headers=cross).status_code == 403
    assert client.get("/thumb/0", headers=cross).status_code == 403
    assert client.get("/", headers=cross).status_code == 200
    assert client.get("/thumb/0", headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_every_answer_has_the_headers(client, searcher, monkeypatch):
    monkeypatch.setattr(Searcher, "search", lambda *_: 1 / 0)
    answers = [client.get(address) for address in ("/", "/api/status", "/thumb/0", "/none", "/api/search")]
    answers += [client_of(searcher, "evil.example").get("/"), client.get("/api/search?q=dog"), client.put("/")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 500, 421, 500, 405]
    for answer in answers:
        assert HEADERS.items() <= dict(answer.headers).items()
    assert "division" not in answers[6].text and "server's log" in answers[6].json()["error"]


@pytest.fixture
def address(index, model):
    """Of a real server in a thread."""
    searcher = Searcher(index, model)
    options = ServeOptions(port=0)
    listening = server.listen(options)
    running = server.make_server(searcher, options)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    running.should_exit = True
    thread.join(10)


def test_several_are_served_while_the_index_is_swapped(address, index, photos, update):
    from urllib.request import urlopen

    def ask(number):
        with urlopen(f"{address}/{'api/search?q=dog' if number % 2 else f'thumb/{number % 8}'}", timeout=30) as answer:
            return answer.status

    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(ask, number) for number in range(16)]
        draw(photos / "new.png", 80)
        update(index, photos)
        second = [pool.submit(ask, number) for number in range(16)]
        assert {future.result() for future in first + second} == {200}
    with urlopen(f"{address}/api/status", timeout=30) as answer:
        assert b'"pictures":9' in answer.read()


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(UserError, match="cannot listen at 127.0.0.1 port"):
            server.listen(ServeOptions(port=taken.getsockname()[1]))
    with pytest.raises(UserError, match="cannot listen at no.such.host.invalid"):
        server.listen(ServeOptions(host="no.such.host.invalid"))


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs starlette and uvicorn: pip install 'mlvl_fairseq\[search\]'"):
        server.require_server()
