"""An auth server to be measured: ``python -m benchmarks.served KEY PORT [asgi]``."""

from __future__ import annotations

import asyncio
import sys

from moq_token.server import AuthServer, Cap, CapKind, Policy
from moq_token.server.listen import TcpAddress, listening

HOST = "127.0.0.1"


def main(key: str, port: int, *, asgi: bool) -> None:
    policy = Policy(key, expires="1h", revalidate="1m")
    server = AuthServer(policy, caps={CapKind.TOKEN: Cap(1_000_000)})
    if asgi:
        import uvicorn

        uvicorn.run(server.asgi, host=HOST, port=port, access_log=False, log_level="warning")
        return
    import uvloop

    async def serve() -> None:
        async with listening(server.handle, TcpAddress(HOST, port)):
            await asyncio.Event().wait()

    uvloop.run(serve())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), asgi="asgi" in sys.argv)
