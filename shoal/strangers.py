"""Connections to the control API that have not shown the token yet: so many are kept, and no more.

Every program on a device can connect to its loopback, and each connection costs the daemon an open file, also one on
which nothing is ever asked. So the way of a connection is this: it counts as a stranger's from its first moment; the
request that shows the token makes it known; and where there are too many strangers the one that has been silent for
longest is hung up on. Whoever has the token gets through, however many others hold connections. What is known is
bounded by the requests that are answered at once, and closed by `aiohttp` when it idles.
"""

from aiohttp import web

MAX_STRANGERS = 256
"""Twice what the system accepts at once, so that none goes that was just about to ask; a quarter of the files that a
process usually may open."""


class Strangers:
    """Makes the connections of a server, and hangs up on the oldest of those who have shown nothing."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._silent: dict[web.RequestHandler, None] = {}

    def __call__(self) -> web.RequestHandler:
        """What handles a new connection."""
        while len(self._silent) >= MAX_STRANGERS:
            oldest = next(iter(self._silent))
            del self._silent[oldest]
            oldest.force_close()
        made = self._server()
        self._silent[made] = None
        return made

    def know(self, connection: web.RequestHandler) -> None:
        """Count a connection among the strangers no longer."""
        self._silent.pop(connection, None)
