"""The hash by which an output is known to be the same as before."""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

HASH_BYTES = 16
GONE = blake2b(digest_size=HASH_BYTES, person=b"wellspring-gone").digest()
"""The hash of a page that is gone: nothing of it is stored, so that a store without it can be told to be right."""
_BEGUN = blake2b(digest_size=HASH_BYTES, person=b"wellspring-out")


def output_hash(body: bytes | None, content_type: str, tags: Iterable[str]) -> bytes:
    """16 bytes over all that is stored; a page that is gone (body None) has GONE, whatever the answer that said so.

    The tags count as a set: their order and doubles are not stored. BLAKE2b-128: keyed by nothing, since whoever can
    choose a page's bytes gains only that their own page stays.
    """
    if body is None:
        return GONE
    digest = _BEGUN.copy()
    digest.update(body)
    digest.update(_tail(content_type, tuple(tags)))
    return digest.digest()


def taken_hash(hashed: bytes, version: bytes) -> bytes:
    """16 bytes over an output's hash and the version that it is stored with: by them a page taken from another data
    centre is known (decision 0144)."""
    return blake2b(hashed + version, digest_size=HASH_BYTES, person=b"wellspring-take").digest()


def possible_hashes(body: bytes, content_type: str, tag_sets: Iterable[Iterable[str]]) -> list[bytes]:
    """The hash for each set of tags, in order; the body is gone through once."""
    digest = _BEGUN.copy()
    digest.update(body)
    hashes = []
    for tags in tag_sets:
        one = digest.copy()
        one.update(_tail(content_type, tuple(tags)))
        hashes.append(one.digest())
    return hashes


@lru_cache(maxsize=256)
def _tail(content_type: str, tags: tuple[str, ...]) -> bytes:
    """What is hashed after the body; many pages have the same."""
    tail = "\0".join((content_type, *sorted(set(tags)))).encode()
    # The length last: it tells where the body ends.
    return tail + len(tail).to_bytes(4, "big")
