"""For the tests of features: a storage server of their own, on an embedded store that goes with the test."""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Final

COMMAND_VARIABLE: Final = "WELLSPRING_COMMAND"
"""The environment variable that names the command ``wellspring`` where it is not on the PATH."""
_STOP_S: Final = 60.0


@contextlib.contextmanager
def storage_server(settings: Sequence[str] = ()) -> Iterator[str]:
    """Starts a storage server on a free port of this machine, with an empty embedded store; yields its address, ends
    the server and removes the store.

    ``settings`` are further ones, as ``wellspring serve storage --set`` takes them. Raises RuntimeError when the
    command is not found, or when the server does not start: what it says is on standard error.
    """
    with tempfile.TemporaryDirectory(prefix="wellspring-test-") as folder:
        given = [f"backend.embedded.path={folder}/data", "server.listen=['127.0.0.1:0']", *settings]
        words = [*_command(), "serve", "storage", *(word for one in given for word in ("--set", one))]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            if not said:
                raise RuntimeError(f"the storage server did not start (status {process.wait(_STOP_S)})")
            (address,) = json.loads(said)["listen"]
            yield str(address)
        finally:
            process.terminate()
            process.wait(_STOP_S)
            process.stdout.close()


def _command() -> list[str]:
    named = os.environ.get(COMMAND_VARIABLE)
    if named:
        return shlex.split(named)
    found = shutil.which("wellspring")
    if found is None:
        raise RuntimeError(f"the command wellspring is not on the PATH; {COMMAND_VARIABLE} names it where it is")
    return [found]
