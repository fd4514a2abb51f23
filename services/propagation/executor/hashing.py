"""The hash by which an output is known to be the same as before."""

from hashlib import blake2b

HASH_BYTES = 16
GONE = blake2b(digest_size=HASH_BYTES, person=b"wellspring-gone").digest()
"""The hash of a page that is gone: nothing of it is stored, so that a store without it can be told to be right."""


def output_hash(body: bytes | None, content_type: str, tags: tuple[str, ...]) -> bytes:
    """16 bytes over all that is stored; a page that is gone (body None) has GONE, whatever the answer that said so.

    BLAKE2b-128: keyed by nothing, since whoever can choose a page's bytes gains only that their own page stays.
    """
    if body is None:
        return GONE
    head = "\0".join((content_type, *tags)).encode()
    digest = blake2b(digest_size=HASH_BYTES, person=b"wellspring-out")
    digest.update(len(head).to_bytes(4, "big"))
    digest.update(head)
    digest.update(body)
    return digest.digest()
