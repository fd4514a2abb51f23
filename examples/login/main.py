"""Runs the example on this machine.

python -m examples.login.main --session 127.0.0.1:7102 --port 8080
"""

import argparse
import asyncio
import signal
import sys

import wellspring_client
from examples.login.app import app
from examples.login.serve import serving
from wellspring_client.asgi import Cookie, SessionMiddleware


async def run(session: str, realm: str, port: int, bound_s: float) -> None:
    """Serves on loopback until SIGINT or SIGTERM; says where on standard output. Raises OSError."""
    # Plain HTTP, on this machine: without it the cookie goes over HTTPS only.
    cookie = Cookie(insecure_for_development=True)
    with_sessions = SessionMiddleware(
        app, lambda: wellspring_client.aio.connect(session=session), realm=realm, cookie=cookie, bound_s=bound_s
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(with_sessions, "127.0.0.1", port) as listening:
        sys.stdout.write(f"http://127.0.0.1:{listening}/ (alice: wonderland, bob: builder)\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="An application with a login.")
    parser.add_argument("--session", default="127.0.0.1:7102", help="where the session service listens")
    parser.add_argument("--realm", default="web")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--bound", type=float, default=5.0, help="the realm's revocation_bound, in seconds")
    given = parser.parse_args()
    status = 0
    try:
        asyncio.run(run(given.session, given.realm, given.port, given.bound))
    except* (OSError, ValueError) as errors:
        sys.stderr.write(f"cannot start: {errors.exceptions[0]}\n")
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
