"""What every request passes: by which names this server may be called, and the headers of every answer.

A page of another site cannot use the server through its visitor's browser: it would have to call it by a name of its
own (DNS rebinding), which is refused; no answer allows another origin to read it.
"""

import ipaddress
from typing import Iterable, Optional, Set

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
LOCAL = {"localhost", "127.0.0.1", "::1"}


def is_local(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    return host in LOCAL or host.startswith("127.")


def allowed_names(host: str, more: Iterable[str]) -> Set[str]:
    """Names of the server."""
    return {name.lower() for name in (*LOCAL, host, *more)}


class Guard:
    """ASGI middleware: refuses other hosts and other sites, and adds :data:`HEADERS`.

    Args:
        app: what is guarded.
        host: the address it listens at; beyond this machine, it may also be called by any number: no rebinding there.
        names: others that it may be called by.
    """

    def __init__(self, app: ASGIApp, host: str, names: Iterable[str] = ()):
        self.app, self.local, self.names = app, is_local(host), allowed_names(host, names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(headers.getlist("host"), headers.get("sec-fetch-site", "none"), scope["path"])
        return await (refusal or self.app)(scope, receive, guarded)

    def _refusal(self, hosts, site: str, path: str) -> Optional[JSONResponse]:
        name = _hostname(hosts[0]) if len(hosts) == 1 else ""
        if not self._is_ours(name):
            shown = name if name.isprintable() and len(name) < 100 else "..."
            message = f"this server does not go by the name '{shown}'; if it should: --allow-host {shown}"
            return JSONResponse({"error": message}, 421)
        if site == "cross-site" and path != "/":  # a link to the page is fine
            return JSONResponse({"error": "another site may not use this server"}, 403)
        return None

    def _is_ours(self, name: str) -> bool:
        return name in self.names or (not self.local and _is_number(name))


def _hostname(host: str) -> str:
    """``photos.example.org`` of ``Photos.example.org:8000``; ``::1`` of ``[::1]:8000``."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
