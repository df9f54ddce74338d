"""The application: a page of four files, and an API of four addresses (docs/search.md).

Pictures are asked for by their number. What is uploaded is decoded in memory and forgotten.
"""

import asyncio
import io
import logging
import time
from functools import partial
from importlib.resources import files
from typing import Any, Dict, List, Optional

import anyio
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mlvl_fairseq.data.images.reading import decode_image
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.search.query import Query
from mlvl_fairseq.search.searcher import Searcher, describe
from mlvl_fairseq.search.serving.guard import Guard
from mlvl_fairseq.search.serving.options import ServeOptions
from mlvl_fairseq.search.serving.pictures import SIDES, Pictures

logger = logging.getLogger(__name__)
PAGE = 24  # results at a time
SOME = 12  # pictures of the page on which nothing is searched yet
UPLOAD_SECONDS = 60
UPLOAD_PIXELS = 50_000_000
FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


def make_app(searcher: Searcher, options: ServeOptions) -> ASGIApp:
    """The ASGI application that shows and searches an index."""
    api = _Api(searcher, options)
    routes = [Route(f"/{path}", partial(_file, name, kind)) for path, (name, kind) in FILES.items()]
    routes += [
        Route("/api/status", api.status),
        Route("/api/search", api.search, methods=["GET", "POST"]),
        *(Route(f"/{size}/{{row:int}}", partial(api.picture, size)) for size in SIDES),
    ]
    handlers = {HTTPException: _http_error, UserError: api.user_error, Exception: _unforeseen}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), options.host, options.allow_host or ())


async def _file(name: str, kind: str, request: Request) -> Response:
    content = (files("mlvl_fairseq.search.serving") / "page" / name).read_bytes()
    return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


class _Api:
    """What the page asks for."""

    def __init__(self, searcher: Searcher, options: ServeOptions):
        self.searcher, self.options = searcher, options
        self.pictures = Pictures(searcher)
        self._limiter: Optional[anyio.CapacityLimiter] = None

    async def status(self, request: Request) -> Response:
        return _answer(await self._in_thread(self._status))

    def _status(self) -> Dict[str, Any]:
        model = self.searcher.model
        return {
            **describe(self.searcher),
            "needs_language": bool(model.encoder.own_languages),
            "languages": model.encoder.own_languages or model.languages,
            "reranks": self.searcher.reranks,
            "max_upload": self.options.max_upload << 20,
            "page": PAGE,
            "some": self._some(),
        }

    def _some(self) -> List[int]:
        """Rows of some pictures, of all parts of the index: what a page shows before anything is searched."""
        rows = np.flatnonzero(self.searcher.index.live)
        return rows[np.linspace(0, len(rows), min(SOME, len(rows)), endpoint=False).astype(int)].tolist()

    async def search(self, request: Request) -> Response:
        asked = request.query_params
        given = {
            "lang": asked.get("lang") or None,
            "like": _number(asked.get("like"), "like"),
        }
        start = _number(asked.get("start"), "start") or 0
        upload = await self._upload(request) if request.method == "POST" else None
        return _answer(await self._in_thread(self._search, asked.get("q", ""), given, start, upload))

    def _search(self, words: str, given: Dict[str, Any], start: int, upload: Optional[bytes]) -> Dict[str, Any]:
        began = time.perf_counter()
        self._require_language(given["lang"])
        picture = None
        if upload is not None:
            picture = decode_image(io.BytesIO(upload), "the picture", max_pixels=UPLOAD_PIXELS)
        query = Query.typed(words, picture=picture, **given)
        found = self.searcher.search(query, PAGE, start)
        results = [
            {"row": row, "score": round(score, 4), "name": name.rpartition("/")[2]}
            for row, name, score in zip(found.rows, found.names, found.scores)
        ]
        return {
            "results": results,
            "start": start,
            "more": len(results) == PAGE and start + PAGE < found.index.pictures,
            "unwanted": query.unwanted,
            "reranked": found.matched is not None,
            "ms": round(1000 * (time.perf_counter() - began), 1),
            **describe(self.searcher),
        }

    def _require_language(self, lang: Optional[str]) -> None:
        known = self.searcher.model.encoder.own_languages
        if known and lang not in known:
            what = f"this model does not know the language '{lang}'" if lang else "this model needs the words' language"
            raise UserError(f"{what}: choose one of {', '.join(known)}")

    async def picture(self, size: str, request: Request) -> Response:
        try:
            content = await self._in_thread(self.pictures.jpeg, request.path_params["row"], size)
        except DataError as error:
            logger.info("no picture %d: %s", request.path_params["row"], error)
            raise HTTPException(404, "this picture is gone, or cannot be read any more") from None
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    async def _upload(self, request: Request) -> bytes:
        """The body of a request.

        Raises:
            HTTPException: there is none, it is too large, or takes too long.
        """
        limit, content = self.options.max_upload << 20, bytearray()
        too_large = HTTPException(413, f"a picture may have {self.options.max_upload} MiB; make it smaller")
        if int(request.headers.get("content-length") or 0) > limit:
            raise too_large
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                async for part in request.stream():
                    content += part
                    if len(content) > limit:
                        raise too_large
        except TimeoutError:
            raise HTTPException(408, f"the picture did not arrive within {UPLOAD_SECONDS} seconds") from None
        except ClientDisconnect:
            raise HTTPException(400, "the picture did not arrive") from None
        if not content:
            raise HTTPException(400, "there is no picture in the request")
        return bytes(content)

    async def _in_thread(self, work, *arguments):
        """Run what computes or reads, so many at once, while others are answered."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self.options.threads)
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._limiter)

    async def user_error(self, request: Request, error: UserError) -> Response:
        """What is wrong with a query, without paths of this machine."""
        message = str(error)
        for path, name in ((self.searcher.folder, "the index"), (self.searcher.model.encoder.source, "the model")):
            message = message.replace(f"{path}: ", f"{name} ").replace(str(path), name)
        return JSONResponse({"error": message}, 400)


def _answer(content: Dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


def _number(text: Optional[str], name: str) -> Optional[int]:
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise HTTPException(400, f"{name} is no number")
    return int(text)


async def _http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _unforeseen(request: Request, error: Exception) -> Response:
    """The error itself goes on to the server, which logs it."""
    return JSONResponse({"error": "something went wrong here; the server's log says what"}, 500)
