"""The ASGI application that ``benchmarks.servers`` measures under uvicorn: as ``serve`` with the flags there."""

from __future__ import annotations

import os

from moq_token.server import AuthServer, Cap, CapKind, Policy

policy = Policy(os.environ["BENCH_KEY"], expires="1h", revalidate="1m")
app = AuthServer(policy, caps={CapKind.TOKEN: Cap(1_000_000)}).asgi
