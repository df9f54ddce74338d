"""The page in Chromium: words, keys, a phone, dark colours, scripts from right to left, and errors."""

import threading

import pytest
from chromium import Chromium, find_chromium
from drawn_photos import NAMES, draw

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.search.building import IndexOptions, update_index
from mlvl_fairseq.search.query import Query
from mlvl_fairseq.search.searcher import Searcher
from mlvl_fairseq.search.serving import server
from mlvl_fairseq.search.serving.options import ServeOptions
from mlvl_fairseq.search.serving.pictures import Pictures
from mlvl_fairseq.search.sources import source_of

pytest.importorskip("starlette", reason="needs the extra [search]: starlette, uvicorn")
pytest.importorskip("uvicorn", reason="needs the extra [search]: starlette, uvicorn")
pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium; on Debian: apt install chromium")

ROWS = "[...document.querySelectorAll('.card img')].map((image) => Number(image.src.split('/').pop()))"
SHOWN = "document.querySelectorAll('.card').length && !document.querySelector('[aria-busy]')"
STATE = "document.getElementById('state').textContent"
FOCUSED = "(document.activeElement.dataset.place ?? document.activeElement.id)"


@pytest.fixture(scope="module")
def searcher(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for seed, name in enumerate([*NAMES, *(f"more/{number:02d}.png" for number in range(22))]):
        draw(folder / "photos" / name, seed)
    update_index(folder / "index", source_of(folder / "photos"), model.encoder, IndexOptions())
    return Searcher(folder / "index", model)


@pytest.fixture(scope="module")
def serving(searcher):
    listening = server.listen(ServeOptions(port=0))
    running = server.make_server(searcher, ServeOptions(max_upload=1))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/", running
    running.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(browser, serving):
    browser.events.clear()
    browser.size(1280, 800)
    browser.open(serving[0])
    browser.wait("document.getElementById('count')?.textContent === '30 pictures'")
    yield browser
    assert not browser.problems()


def search(page, words):
    page.press("/")
    page.type(words)
    page.press("Enter")
    page.wait(f"location.search.length > 1 && {SHOWN}")


def test_words_are_searched_by_keyboard_alone(page, searcher):
    page.press("Tab")  # away from the words
    search(page, "dogs -snow")
    expected = searcher.search(Query("dogs", ["snow"]), 30).rows
    assert page.value(ROWS) == expected[:24]
    assert page.value(STATE).startswith("24 pictures of 30 · without snow · ")
    columns = page.value("getComputedStyle(document.getElementById('grid')).gridTemplateColumns.split(' ').length")
    page.press("ArrowDown")
    assert page.value(FOCUSED) == "0"
    page.press("ArrowRight", "ArrowDown")
    assert page.value(FOCUSED) == str(1 + columns)
    page.press("Enter")
    page.wait("document.getElementById('viewer').open && document.getElementById('viewer-picture').naturalWidth")
    page.press("ArrowRight")
    place = 2 + columns
    page.wait(f"document.getElementById('viewer-picture').src.endsWith('/picture/{expected[place]}')")
    page.press("Escape")
    page.wait(f"!document.getElementById('viewer').open && {FOCUSED} === '{place}'")
    page.press("m")
    page.wait(f"location.search === '?like={expected[place]}' && {SHOWN}")
    assert page.value(ROWS) == searcher.search(Query(like=expected[place]), 24).rows
    page.value("history.back()")
    page.wait("location.search.startsWith('?q=dogs')")
    page.wait(f"{SHOWN} && JSON.stringify({ROWS}) === '{str(expected[:24]).replace(' ', '')}'")
    page.value("document.getElementById('more').click()")
    page.wait(f"{ROWS}.length === 30")
    assert page.value(ROWS) == expected and page.value("document.getElementById('more').hidden")


def test_a_picture_that_is_given_is_searched_by(page, searcher, tmp_path):
    draw(tmp_path / "given.png", 3)
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "given.png")])
    page.wait(f"!document.getElementById('given').hidden && {SHOWN}")
    assert page.value(ROWS) == searcher.search(Query(picture=tmp_path / "given.png"), 24).rows
    assert page.value("!document.getElementById('given').hidden") and page.value("location.search") == ""
    page.wait("document.getElementById('preview').getContext('2d').getImageData(28, 28, 1, 1).data[3] === 255")
    page.value("document.getElementById('drop').click()")
    page.wait("document.getElementById('given').hidden && !document.getElementById('start').hidden")


def test_some_pictures_are_there_before_anything_is_searched(page):
    rows = page.value(ROWS)
    assert rows == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27] and not page.value(
        "document.querySelector('.card .score')"
    )
    page.press("ArrowDown", "ArrowRight", "Enter")
    page.wait("document.getElementById('viewer').open && document.getElementById('viewer-picture').naturalWidth")
    assert page.value("document.getElementById('viewer-picture').src.split('/').pop()") == "2"
    page.press("m")
    page.wait(f"location.search === '?like=2' && {SHOWN} && document.querySelector('.card .score')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_colours(page, scheme):
    page.size(360, 740, scheme)
    search(page, "كلب في الثلج")
    assert page.value("document.documentElement.scrollWidth") == 360
    assert page.value("getComputedStyle(document.getElementById('words')).direction") == "rtl"
    assert page.value("new Set([...document.querySelectorAll('.card')].map((card) => card.offsetLeft)).size") == 2
    assert page.value("getComputedStyle(document.getElementById('hint')).display") == "none"  # room for the pictures
    heights = "filter((one) => one.offsetParent).map((one) => one.offsetHeight)"
    assert page.value(f"Math.min(...[...document.querySelectorAll('button, select, label.icon')].{heights})") >= 40
    ground = page.value("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == {"light": "rgb(250, 250, 250)", "dark": "rgb(20, 21, 24)"}[scheme]


def test_every_control_has_a_name(page):
    search(page, "dogs")
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "link", "searchbox", "image", "combobox", "dialog", "list")
    nodes = [node for node in tree if node.get("role", {}).get("value") in roles and not node["ignored"]]
    assert len(nodes) > 30
    assert not [node for node in nodes if not node.get("name", {}).get("value")]


def test_errors_are_said_and_can_be_tried_again(page, serving):
    page.type("-snow")
    page.press("Enter")
    page.wait("!document.getElementById('error').hidden")
    assert "Say what is searched for" in page.value("document.getElementById('error-text').textContent")
    assert page.value("document.getElementById('again').hidden")  # it would be wrong again
    page.events.clear()  # the browser logs every status of 400
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    search_again = "document.getElementById('words').value = 'dogs'; document.getElementById('go').click()"
    page.value(search_again)
    page.wait("document.getElementById('error-text').textContent.startsWith('The server does not answer')")
    assert not page.value("document.getElementById('again').hidden")
    page.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.value("document.getElementById('again').click()")
    page.wait(f"{SHOWN} && document.getElementById('error').hidden")
    page.events.clear()


def test_a_picture_that_is_gone_says_so(page, monkeypatch):
    def gone(*_):
        raise DataError("no such picture")

    monkeypatch.setattr(Pictures, "jpeg", gone)
    page.call("Network.setCacheDisabled", cacheDisabled=True)
    search(page, "dogs")
    page.wait("document.querySelector('.card.broken')?.dataset.broken.startsWith('This picture is gone')")
    page.call("Network.setCacheDisabled", cacheDisabled=False)
    page.events.clear()
