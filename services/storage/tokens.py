"""The tokens that callers carry: page tokens, which are good for a day and one request, and resume tokens, which are
good for as long as what they resume. Signed; the cookie of a write is no secret and is not."""

from collections.abc import Sequence
from typing import Final

from libs.errors.errors import InvalidArgument
from libs.paging.paging import PageTokens
from services.storage.domain.errors import PageTokenInvalid

RESUME_LIFETIME_S: Final = 10 * 365 * 86_400
"""The longest that a feed may reach back."""
_MAX_COOKIE: Final = 128


class Tokens:
    """Issues and opens the tokens of the data plane. ``identity`` is whatever a token is bound to."""

    def __init__(self, pages: PageTokens, resumes: PageTokens) -> None:
        """``resumes`` live for ``RESUME_LIFETIME_S``."""
        self._pages = pages
        self._resumes = resumes

    def page(self, cursor: bytes, method: str, identity: Sequence[str | bytes]) -> str:
        """A page token."""
        return self._pages.issue(cursor, method=method, identity=identity)

    def open_page(self, token: str, method: str, identity: Sequence[str | bytes]) -> bytes | None:
        """Its cursor; None for an empty token. Raises PageTokenInvalid."""
        return _open(self._pages, token, method, identity, "page_token")

    def resume(self, cursor: bytes, method: str, identity: Sequence[str | bytes]) -> str:
        """A resume token."""
        return self._resumes.issue(cursor, method=method, identity=identity)

    def open_resume(self, token: str, method: str, identity: Sequence[str | bytes]) -> bytes | None:
        """Its cursor; None for an empty token. Raises PageTokenInvalid."""
        return _open(self._resumes, token, method, identity, "resume_token")


def cookie(cursor: bytes) -> str:
    """The cookie of a write that the feed cursor ``cursor`` stands behind."""
    return cursor.hex()


def open_cookie(text: str, path: str) -> bytes:
    """The feed cursor in a cookie. Raises InvalidArgument."""
    try:
        if len(text) > _MAX_COOKIE:
            raise ValueError
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidArgument.field(path, "is not a cookie; give the one of a receipt, or none") from None


def _open(tokens: PageTokens, token: str, method: str, identity: Sequence[str | bytes], field: str) -> bytes | None:
    if not token:
        return None
    try:
        return tokens.open(token, method=method, identity=identity)
    except InvalidArgument as error:
        if error.reason == "PAGE_TOKEN_EXPIRED":
            what = "has expired; begin again without a token"
        else:
            what = "was not issued for this request; pass that of the answer before, with the same other arguments"
        raise PageTokenInvalid(f"{field}: {what}", violations=[(field, what)]) from None
