"""The namespaces, their numbers and the signing key: what all servers share, changed by conditional writes only.

A change is answered when a quorum of every data centre has it, and so is read from the own one alone: a server starts,
and goes on, while another data centre is away. Nothing here is changed then.
"""

import secrets
from typing import Final

from libs.cassandra.session import EACH_QUORUM, LOCAL_QUORUM, SERIAL, Session
from libs.errors.errors import Unavailable
from services.storage.cassandra.statements import Statements
from services.storage.domain.errors import NamespaceChanged, NamespaceExists
from services.storage.domain.model import Mode
from services.storage.domain.namespace import Namespace, Settings
from services.storage.store.catalog import decode, encode

_TRIES: Final = 50
_NUMBER: Final = "next number"
_KEY: Final = "signing key"


class Catalog:
    """Reads and writes the namespaces; ``by_number`` are those known to this process."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self._read = statements.read
        self._write = statements.write
        self.by_number: dict[int, Namespace] = {}

    async def all(self) -> list[Namespace]:
        """By name. Raises Unavailable."""
        pages = self._session.pages(self._read["namespaces"], (), LOCAL_QUORUM)
        spaces = [decode(row[0]) async for page in pages for row in page]
        self.by_number = {space.number: space for space in spaces}
        return sorted(spaces, key=lambda space: space.name)

    async def known(self, number: int) -> Namespace | None:
        """The namespace with a number; asks the store when this process does not know it. Raises Unavailable."""
        if number not in self.by_number:
            await self.all()
        return self.by_number.get(number)

    async def create(self, settings: Settings, now_us: int, *, restoring: bool) -> Namespace:
        """As ``Store.create_namespace``. Raises NamespaceExists when another server was faster, and Unavailable."""
        stamped = settings.mode is Mode.LWW
        space = Namespace(settings, await self._next_number(), now_us, restoring=restoring, stamped=stamped)
        values = (space.name, space.number, encode(space))
        rows = await self._session.execute(self._write["create_namespace"], values, EACH_QUORUM, serial=SERIAL)
        if not rows[0][0]:
            raise NamespaceExists(f"the namespace {space.name!r} was made by somebody else just now")
        self.by_number[space.number] = space
        return space

    async def replace(self, space: Namespace) -> None:
        """As ``Store.replace_namespace``. Raises NamespaceChanged when another server changed or purged it meanwhile,
        and Unavailable."""
        before = await self.known(space.number)
        changed = NamespaceChanged(
            f"the namespace {space.name!r} was changed by another server just now; get it again, then decide"
        )
        if before is None or before.revision != space.revision - 1:
            raise changed
        values = (encode(space), space.name, encode(before))
        rows = await self._session.execute(self._write["replace_namespace"], values, EACH_QUORUM, serial=SERIAL)
        if not rows[0][0]:
            raise changed
        self.by_number[space.number] = space

    async def drop(self, space: Namespace) -> None:
        """Forgets the namespace. Raises Unavailable."""
        values = (space.name, space.number)
        await self._session.execute(self._write["drop_namespace"], values, EACH_QUORUM, serial=SERIAL)
        self.by_number.pop(space.number, None)

    async def signing_key(self) -> bytes:
        """As ``Store.signing_key``."""
        rows = await self._session.execute(self._read["shared"], (_KEY,), LOCAL_QUORUM)
        return bytes(rows[0][0]) if rows else await self._shared(_KEY, secrets.token_bytes(32))

    async def _next_number(self) -> int:
        for _ in range(_TRIES):
            found = await self._shared(_NUMBER, (1).to_bytes(4, "big"))
            number = int.from_bytes(found, "big")
            values = ((number + 1).to_bytes(4, "big"), _NUMBER, found)
            rows = await self._session.execute(self._write["reshare"], values, EACH_QUORUM, serial=SERIAL)
            if rows[0][0]:
                return number
        raise Unavailable("too many namespaces are being made at once; come back", retry_after_s=1.0)

    async def _shared(self, name: str, first: bytes) -> bytes:
        """The value that all servers share, ``first`` when there is none yet."""
        rows = await self._session.execute(self._read["shared"], (name,), SERIAL)
        if rows:
            return bytes(rows[0][0])
        rows = await self._session.execute(self._write["share"], (name, first), EACH_QUORUM, serial=SERIAL)
        if rows[0][0]:
            return first
        rows = await self._session.execute(self._read["shared"], (name,), SERIAL)
        return bytes(rows[0][0])
