"""The cookie that holds a session's token: its attributes, right by default; written and read as bytes of HTTP headers.

    __Host-session=wss_…; Path=/; Secure; HttpOnly; SameSite=Lax

``__Host-``: browsers take it over HTTPS only, from this host only, and no other host of the domain can set it
(RFC 6265bis). HttpOnly: no script reads it. Lax: requests that another site's page makes do not carry it, but for
plain navigation (see :mod:`wellspring_client.asgi` on CSRF).
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Final

Headers = Iterable[tuple[bytes, bytes]]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VALUE: Final = re.compile(rb"[A-Za-z0-9_.-]{1,512}")
"""A token's characters, and more of them than one has."""
_PREFIXES: Final = ("__host-", "__secure-")


@dataclasses.dataclass(frozen=True, slots=True)
class Cookie:
    """``name`` without its prefix; ``same_site`` "Lax" or "Strict".

    ``insecure_for_development`` drops Secure and the prefix, so that the cookie goes over plain HTTP: for a machine of
    a developer, and nothing else. Raises ValueError for what would not be safe, or no cookie.
    """

    name: str = "session"
    same_site: str = "Lax"
    insecure_for_development: bool = False

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None or self.name.lower().startswith(_PREFIXES):
            raise ValueError(f"a cookie's name is 1 to 64 letters, digits, - and _, without its prefix: {self.name!r}")
        if self.same_site not in ("Lax", "Strict"):
            raise ValueError(f'same_site is "Lax" or "Strict" (others let foreign sites act): got {self.same_site!r}')

    @property
    def full_name(self) -> str:
        """As browsers know it."""
        return self.name if self.insecure_for_development else f"__Host-{self.name}"

    def setting(self, token: str) -> bytes:
        """The value of a Set-Cookie header that hands the token over. It ends with the browser; the session by itself.
        Raises ValueError for what is no token.
        """
        if _VALUE.fullmatch(token.encode(errors="replace")) is None:
            raise ValueError("not of a token's form")
        return self._header(token, "")

    def clearing(self) -> bytes:
        """The value of a Set-Cookie header that takes it away."""
        return self._header("", "; Max-Age=0")

    def read(self, headers: Headers) -> tuple[str | None, bool]:
        """The token in a request's headers, or None; and whether there is a cookie of this name at all.

        Two of one name, or one that no token can be, are no token: nobody can tell which one was meant.
        """
        wanted = self.full_name.encode()
        found = []
        for name, value in headers:
            if name.lower() == b"cookie":
                pairs = (part.strip(b" \t").partition(b"=") for part in value.split(b";"))
                found += [text for key, _, text in pairs if key == wanted]
        if len(found) != 1 or _VALUE.fullmatch(found[0]) is None:
            return None, bool(found)
        return found[0].decode(), True

    def _header(self, value: str, more: str) -> bytes:
        secure = "" if self.insecure_for_development else "; Secure"
        text = f"{self.full_name}={value}; Path=/{secure}; HttpOnly; SameSite={self.same_site}{more}"
        return text.encode()
