"""The hash by which an output is known to be the same as before."""

from hashlib import blake2b

HASH_BYTES = 16


def output_hash(body: bytes | None, content_type: str, tags: tuple[str, ...]) -> bytes:
    """16 bytes over all that is stored; a page that is gone has a hash of its own.

    BLAKE2b-128: keyed by nothing, since whoever can choose a page's bytes gains only that their own page stays.
    """
    head = "\0".join((content_type, *tags)).encode()
    digest = blake2b(digest_size=HASH_BYTES, person=b"wellspring-out" if body is not None else b"wellspring-gone")
    digest.update(len(head).to_bytes(4, "big"))
    digest.update(head)
    digest.update(body or b"")
    return digest.digest()
