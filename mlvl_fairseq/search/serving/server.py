"""Serves the page of an index until it is interrupted."""

import contextlib
import logging
import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.search.searcher import Searcher
from mlvl_fairseq.search.serving.options import ServeOptions

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)
CONNECTIONS = 256  # at once; more are told that the server is busy


def require_server() -> None:
    """Raises UserError: Starlette or uvicorn is not installed."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(f"the page needs {' and '.join(missing)}: pip install 'mlvl_fairseq[search]'")


def serve(searcher: Searcher, options: ServeOptions) -> None:
    """Serve until Ctrl-C.

    Raises:
        UserError: the address or port cannot be listened at.
    """
    from mlvl_fairseq.search.serving.guard import is_local

    listening = listen(options)
    port = listening.getsockname()[1]
    if not is_local(options.host):
        logger.warning("whoever can reach this machine can search and see these pictures: there is no password")
    shown = f"[{options.host}]" if ":" in options.host else options.host
    print(f"{searcher.index.pictures:,} pictures at http://{shown}:{port}/  (Ctrl-C ends)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # the usual end
        make_server(searcher, options).run(sockets=[listening])


def make_server(searcher: Searcher, options: ServeOptions) -> "uvicorn.Server":
    """The server; its ``run(sockets=[listen(options)])`` works until its ``should_exit`` is set."""
    import uvicorn

    from mlvl_fairseq.search.serving.app import make_app

    config = uvicorn.Config(
        make_app(searcher, options),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


def listen(options: ServeOptions) -> socket.socket:
    """A socket at the address and port.

    Raises:
        UserError: there is no such address here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(CONNECTIONS)  # who comes before the server is ready waits
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        where = f"{options.host} port {options.port}"
        raise UserError(f"cannot listen at {where}: {reason}; give another --host or --port") from None
    return listening
