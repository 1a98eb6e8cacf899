"""Who may talk to the page's server: a browser that shows its own page, and nobody else.

The server listens on the loopback only. A page of another site, open in the same browser, could
still reach it there, under a name of its own that it lets point to this machine, or straight by a
WebSocket, which browsers let any page open.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names of this machine that its page may be opened by.
HOSTS = ["127.0.0.1", "localhost"]

#: Nothing is loaded from elsewhere, and no other page may show this one.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class OwnPageOnly:
    """Refuse what another site's page sends. The host is to be checked before: see HOSTS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        # A browser states it for every WebSocket, and for what another page requests.
        own = f"http://{headers.get('host', '')}"
        if origin != own and not (origin is None and scope["type"] == "http"):
            refusal = PlainTextResponse("This is for the page that is served here only.\n", 403)
            await refusal(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)
