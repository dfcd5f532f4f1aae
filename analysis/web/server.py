"""The web server: one socket, one application, until somebody stops it.

What cannot be bound is a `UserError` before anything is served.
"""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from embedder.errors import UserError


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens on host and port; port 0 is any that is free.

    Raises `UserError` if the port is not legal or in use, or the host is not one of this machine.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port} is not legal; it must be from 0 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise UserError(f"--host {host} is no name or address that is known here") from None
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # just after another one ended
        made.bind(address)
        made.listen()
    except PermissionError:
        made.close()
        raise UserError(f"--port {port} may not be used by you; choose one above 1023") from None
    except OSError as error:
        made.close()
        raise UserError(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another --port or "
            "--host"
        ) from None
    return made


def address(made: socket.socket) -> str:
    """Where a browser finds what listens on a socket."""
    host, port = made.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(made: socket.socket) -> bool:
    """Whether a socket can be reached from this machine only."""
    return ipaddress.ip_address(made.getsockname()[0]).is_loopback


def serve_on(made: socket.socket, app: Callable[..., Any]) -> None:
    """Serve an application until it is stopped; then `KeyboardInterrupt`, so that all is closed.

    uvicorn lets requests end that have begun, for a few seconds, and raises the signal again.
    """
    import uvicorn

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[made])


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt
