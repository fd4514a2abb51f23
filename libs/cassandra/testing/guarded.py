"""Certificates of a node that lets in only whom it knows, and of those who come: right ones and wrong ones."""

import itertools
from pathlib import Path
from typing import Final

from libs.rpc.testing.certificates import Authority
from tools.dev.servers.cassandra_config import PASSWORD, USER, Guard

HOST: Final = "127.0.0.1"
OWN, EXPIRED, FOREIGN = "own", "expired", "foreign"


class Guarded:
    """Files in a folder. ``guard`` is for the node at HOST; callers are OWN, EXPIRED and FOREIGN (of an authority
    that the node does not know)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = itertools.count()
        known, other = Authority(), Authority("another authority")
        for authority, name in ((known, OWN), (other, FOREIGN)):
            (folder / f"{name}.ca").write_bytes(authority.pem)
            authority.issue(name).write(folder, name)
        known.issue(EXPIRED, expired=True).write(folder, EXPIRED)
        node = known.issue("node", addresses=(HOST,))
        (folder / "node.pem").write_bytes(node.key + node.chain)
        self.guard = Guard(str(folder / "node.pem"), str(folder / f"{OWN}.ca"))

    def tls(self, caller: str | None = OWN, *, ca: str = OWN, **more: str) -> dict[str, str]:
        """The ``tls`` of a configuration: ``ca`` is OWN or FOREIGN, ``caller`` None shows no certificate."""
        own = {} if caller is None else {"certificate_file": f"{caller}.crt", "key_file": f"{caller}.key"}
        return {key: str(self._folder / name) for key, name in {"ca_file": f"{ca}.ca", **own}.items()} | more

    def login(self, user: str = USER, password: str = PASSWORD) -> dict[str, str]:
        """The user of a configuration."""
        file = self._folder / f"password{next(self._files)}"
        file.write_text(password)
        return {"username": user, "password_file": str(file)}
