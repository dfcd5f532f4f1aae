"""Where a page is served: ports that are free, hosts that are known, and who can reach them."""

from __future__ import annotations

import socket

import pytest

from analysis.web.server import address, bound, is_loopback
from embedder.errors import UserError


def test_a_page_is_where_it_says() -> None:
    with bound("127.0.0.1", 0) as made:
        port = made.getsockname()[1]
        assert address(made) == f"http://127.0.0.1:{port}"
        assert is_loopback(made)
        with socket.create_connection(("127.0.0.1", port), 5):
            pass


def test_all_addresses_are_no_loopback_and_are_reached_by_one() -> None:
    with bound("0.0.0.0", 0) as made:
        assert not is_loopback(made)
        assert address(made) == f"http://127.0.0.1:{made.getsockname()[1]}"


def test_a_port_in_use_is_refused_in_a_line_and_is_free_again_afterwards() -> None:
    with bound("localhost", 0) as made:
        port = made.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"cannot listen on \S+, port {port}: .*another --port"
        ):
            bound(made.getsockname()[0], port)
    with bound("127.0.0.1", port):
        pass


@pytest.mark.parametrize("port", [-1, 65536])
def test_ports_that_there_are_not(port: int) -> None:
    with pytest.raises(UserError, match=f"--port {port} is not legal; it must be from 0 to 65535"):
        bound("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 300, "192.0.2.1"])
def test_hosts_that_are_not_here(host: str) -> None:
    with pytest.raises(UserError, match=r"--host .* is no name|cannot listen on 192\.0\.2\.1"):
        bound(host, 0)
