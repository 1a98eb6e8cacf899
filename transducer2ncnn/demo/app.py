"""The page's server: one recording at a time, recognised by several precisions side by side.

What goes over the WebSocket ``/session``: the page says in a JSON text which model and precisions
it wants, and the rate of the samples to come, or that a file is to come. When these are loaded,
the server says ``ready``; the page sends samples as binary float32, or the file, and ``end``. Each
precision's text comes back as it grows, whenever that precision has computed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.demo.delivered import Model
from transducer2ncnn.demo.engine import Engine
from transducer2ncnn.demo.guard import HOSTS, OwnPageOnly
from transducer2ncnn.evaluation.speed import CHUNK
from transducer2ncnn.speech import audio
from transducer2ncnn.speech.features import SAMPLE_RATE

PAGE = Path(__file__).parent / "page"
#: Bytes of a message: of a file, and of samples.
MAX_FILE = 64 * 2**20
MAX_CHUNK = 2**20
#: Seconds of a recording, live or in a file.
MAX_SECONDS = 600.0


@dataclass(frozen=True)
class Asked:
    """What a page asks for.

    Attributes:
        rate: of the samples to come; None if a file is to come.
    """

    model: Model
    precisions: list[str]
    rate: int | None


class Demo:
    """The models that can be tried, and whether one is being tried."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models
        self._busy = asyncio.Lock()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/models", self._list),
                WebSocketRoute("/session", self._session),
                Mount("/", StaticFiles(directory=PAGE, html=True)),
            ],
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
                Middleware(OwnPageOnly),
            ],
        )

    async def _list(self, _: Request) -> JSONResponse:
        return JSONResponse({name: list(model.folders) for name, model in self._models.items()})

    async def _session(self, socket: WebSocket) -> None:
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            try:
                if self._busy.locked():
                    raise UserError("another page is using the models. Wait until it is done.")
                async with self._busy:
                    await self._recognise(socket)
            except UserError as e:
                await socket.send_json({"kind": "error", "message": str(e)})
            await socket.close()

    async def _recognise(self, socket: WebSocket) -> None:
        asked = self._asked(await _text(socket))
        model, rate = asked.model, asked.rate or SAMPLE_RATE
        with contextlib.ExitStack() as stack:
            pieces: dict[str, asyncio.Queue[np.ndarray | None]] = {}
            engines: dict[str, Engine] = {}
            for name in asked.precisions:
                engine = Engine(model.folders[name], model.tail_seconds, rate)
                engines[name] = stack.enter_context(engine)
                pieces[name] = asyncio.Queue()
            for name, engine in engines.items():
                seconds = await asyncio.to_thread(engine.loaded)
                await socket.send_json({"kind": "loaded", "precision": name, "seconds": seconds})
            await socket.send_json({"kind": "ready"})
            try:
                async with asyncio.TaskGroup() as group:
                    for name, engine in engines.items():
                        group.create_task(_report(socket, name, engine, pieces[name]))
                    async for piece in _pieces(socket, asked.rate):
                        for queue in pieces.values():
                            queue.put_nowait(piece)
                    for queue in pieces.values():
                        queue.put_nowait(None)
            except ExceptionGroup as several:
                # What went wrong first ended the others.
                raise several.exceptions[0] from None
        await socket.send_json({"kind": "end"})

    def _asked(self, text: str) -> Asked:
        """
        Raises:
            UserError: it asks for nothing that there is.
        """
        try:
            stated = json.loads(text)
            model, precisions, rate = (stated[key] for key in ("model", "precisions", "rate"))
            found = self._models[model]
            known = isinstance(precisions, list) and {*precisions} <= found.folders.keys()
        except (ValueError, LookupError, TypeError, RecursionError):
            known = False
        if not known or not precisions or len({*precisions}) < len(precisions):
            raise UserError("expected a model that is there, and some of its precisions.")
        if rate is not None and (type(rate) is not int or rate not in audio.RATES):
            raise UserError("expected the samples' rate in Hz, or null for a file.")
        return Asked(found, precisions, rate)


async def _report(
    socket: WebSocket, name: str, engine: Engine, pieces: asyncio.Queue[np.ndarray | None]
) -> None:
    """Let a precision compute what comes, and tell the page what it recognised."""
    said: dict[str, Any] = {}
    while (piece := await pieces.get()) is not None:
        heard = asdict(await asyncio.to_thread(engine.accept, piece))
        if heard["text"] != said.get("text") or heard["seconds"] - said["seconds"] >= 0.5:
            said = heard
            await socket.send_json({"kind": "heard", "precision": name, **heard})
    heard = asdict(await asyncio.to_thread(engine.finish))
    await socket.send_json({"kind": "done", "precision": name, **heard})


async def _pieces(socket: WebSocket, rate: int | None) -> AsyncIterator[np.ndarray]:
    """The recording, in pieces of (n,) float32 samples, as they come or out of the file.

    Raises:
        UserError: what comes is no recording, or too long.
    """
    if rate is None:
        samples = await asyncio.to_thread(_read, await _binary(socket, MAX_FILE))
        size = int(CHUNK * SAMPLE_RATE)
        for first in range(0, len(samples), size):
            yield samples[first : first + size]
        return
    seconds = 0.0
    while True:
        message = await _message(socket)
        if message.get("text") == "end":
            return
        data = message.get("bytes") or b""
        if len(data) % 4 or not 0 < len(data) <= MAX_CHUNK:
            raise UserError("expected samples, float32, of a second or less.")
        samples = np.frombuffer(data, dtype="<f4").astype(np.float32)
        if not np.isfinite(samples).all():
            raise UserError("expected samples that are numbers.")
        seconds += len(samples) / rate
        if seconds > MAX_SECONDS:
            raise UserError(f"the recording is longer than {MAX_SECONDS:.0f} s.")
        yield samples


def _read(data: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        path = Path(folder, "the recording")
        path.write_bytes(data)
        try:
            if (seconds := audio.duration(path)) > MAX_SECONDS:
                raise UserError(f"{path}: lasts {seconds:.0f} s; {MAX_SECONDS:.0f} s are the most.")
            return audio.read(path)
        except UserError as e:
            # The page knows it by another name.
            raise UserError(str(e).replace(str(path), path.name)) from None


async def _text(socket: WebSocket) -> str:
    return str((await _message(socket)).get("text") or "")


async def _binary(socket: WebSocket, limit: int) -> bytes:
    data: bytes = (await _message(socket)).get("bytes") or b""
    if not 0 < len(data) <= limit:
        raise UserError(f"expected a recording of {limit / 2**20:.0f} MiB or less.")
    return data


async def _message(socket: WebSocket) -> Mapping[str, Any]:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    return message
