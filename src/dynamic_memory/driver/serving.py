# SPDX-License-Identifier: Apache-2.0
"""A gRPC server at one of the driver's sockets, from the moment it serves to the moment it ends.

The two servers of a driver, for the DRA calls and for the registration, listen by the same rules: see `sockets`.
"""

from __future__ import annotations

from pathlib import Path

import grpc

from dynamic_memory.driver import sockets

__all__ = ["Serving"]


class Serving:
    """A server that serves; `start` makes one.

    Args:
        server: it, started.
        path: its socket.
        mark: how to know the socket again.

    """

    def __init__(self, server: grpc.aio.Server, path: Path, mark: sockets.Mark) -> None:
        self._server = server
        self._path = path
        self._mark = mark

    @classmethod
    async def start(cls, server: grpc.aio.Server, path: Path) -> Serving:
        """Start a server, and let its socket appear once it serves.

        Raises:
            InvalidInput: the path cannot be a socket's.
            Served: another process listens there.

        """
        sockets.check_path(path)
        sockets.make_room(path)
        listening = sockets.hidden(path)
        try:
            server.add_insecure_port(f"unix:{listening}")
            await server.start()
            mark = sockets.show(listening, path)
        except BaseException:
            await server.stop(None)
            raise
        return cls(server, path, mark)

    async def stop(self, grace: float) -> None:
        """Remove the socket, and end when the calls have ended, at the latest after `grace` seconds."""
        sockets.remove(self._path, self._mark)
        await self._server.stop(grace)
