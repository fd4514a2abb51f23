"""The format: what goes in comes out, however it is cut; whatever is changed on the way is found."""

import random

import google_crc32c
import pytest

from services.storage.backup.contents import Contents, Part
from services.storage.backup.format import END_SIZE, Encoder, End, Frames, Header, Kind, frame, read_end
from services.storage.domain.copying import Copied
from services.storage.domain.errors import ChecksumMismatch, ExportInvalid
from services.storage.domain.model import Mode, Put
from services.storage.domain.namespace import Binding, Caller, Namespace, Retention, Settings

NOW_US = 1_700_000_000_000_000
VERSION = NOW_US.to_bytes(8, "big") + b"nonceabc"
BIG = random.Random(1).randbytes(300)
SPACE = Namespace(
    Settings(
        "wiki",
        Mode.LWW,
        retention=Retention(max_versions=2),
        callers=(Caller("spiffe://x/*", True, False),),
        binding=Binding("enwiki/", "lane", (("k", "aspect"),)),
        labels=(("a", "b"),),
    ),
    7,
    NOW_US,
)


def item(record: bytes, put: Put, version: bytes = VERSION, ordered: bool = False) -> Copied:
    """An item with its value."""
    return Copied(record, VERSION, put, version, ordered, NOW_US, len(put.value))


def parts() -> list[Part]:
    """A header, items of every kind, a big value."""
    big = Put(b"big", b"", "image/png", (), NOW_US + 1, None, True)
    return [
        Header(SPACE, NOW_US, "snapshot-1"),
        item(b"a", Put(b"", b"value")),
        item(b"a", Put(b"\x00\xff", b"", "text/plain", (("k", "v"), ("", "ä")))),
        item(b"\xff", Put(b"", b"html"), (1).to_bytes(8, "big") * 2, ordered=True),
        Copied(b"c", VERSION, big, VERSION, False, NOW_US, len(BIG), google_crc32c.value(BIG)),
        BIG[:200],
        BIG[200:],
        item(b"c", Put(b"bigger", b"x")),
    ]


def encoded(some: list[Part] | None = None) -> tuple[bytes, End]:
    """A stream of parts."""
    encoder, said = Encoder(), []
    for part in some if some is not None else parts():
        if isinstance(part, Header):
            said.append(encoder.header(part))
        elif isinstance(part, bytes):
            said.append(encoder.chunk(part))
        else:
            assert isinstance(part, Copied)
            said.append(encoder.item(part))
    data, end = encoder.end()
    return b"".join([*said, data]), end


def decoded(data: bytes, step: int = 1 << 20, *, bound: bool = False) -> list[Part]:
    """What a stream says, fed by ``step`` bytes."""
    contents = Contents(NOW_US, bound=bound)
    found = [part for at in range(0, len(data), step) for part in contents.feed(data[at : at + step])]
    contents.finish()
    return found


def test_what_goes_in_comes_out_however_it_is_cut() -> None:
    data, end = encoded()
    for step in (1, 2, 3, 7, 64, 1000, len(data)):
        assert decoded(data, step) == [*parts(), end]
    assert end == End(3, 5, 5 + 2 + 4 + 3 + 300 + 7, end.sha256)
    assert read_end(data[-END_SIZE:]) == end
    assert data[-32:] == end.sha256


def test_an_empty_namespace_has_a_header_and_an_end() -> None:
    header: Part = Header(SPACE, NOW_US, "")
    data, end = encoded([header])
    assert decoded(data) == [header, end] and end[:3] == (0, 0, 0)


def test_every_flipped_bit_is_found() -> None:
    data, _ = encoded()
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            with pytest.raises((ChecksumMismatch, ExportInvalid)):
                decoded(bytes(damaged))


def test_every_cut_is_found_and_everything_behind_the_end() -> None:
    data, _ = encoded()
    for length in range(len(data)):
        with pytest.raises(ChecksumMismatch):
            decoded(data[:length])
    for more in (b"\0", data, data[-END_SIZE:], frame(Kind.CHUNK, b"x")):
        with pytest.raises(ChecksumMismatch):
            decoded(data + more)


def test_frames_left_out_doubled_or_swapped_are_found() -> None:
    data, _ = encoded()
    cuts = [one.at for one in Frames().feed(data)] + [len(data)]
    frames = [data[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]
    head = data[: cuts[0]]
    for index in range(len(frames)):
        for changed in (
            frames[:index] + frames[index + 1 :],
            frames[: index + 1] + frames[index:],
            frames[:index] + frames[index : index + 2][::-1] + frames[index + 2 :],
        ):
            if changed != frames:
                with pytest.raises((ChecksumMismatch, ExportInvalid)):
                    decoded(head + b"".join(changed))


def test_a_stream_of_something_else_is_refused_by_name() -> None:
    for data in (b"PK\x03\x04 a zip file", b"wellspring export 2\n", b"\0" * 100):
        with pytest.raises(ExportInvalid, match="no export that this release reads"):
            decoded(data)


IMPOSSIBLE: list[tuple[str, list[Part]]] = [
    ("no header", parts()[1:]),
    ("two headers", parts()[:1] + parts()),
    ("keys that do not rise", [*parts(), item(b"d", Put(b"b", b"")), item(b"d", Put(b"a", b""))]),
    ("an item twice", [*parts(), item(b"d", Put(b"b", b"")), item(b"d", Put(b"b", b""))]),
    ("a record without a key", [*parts(), item(b"", Put(b"", b""))]),
    ("a record with a long key", [*parts(), item(b"x" * 1025, Put(b"", b""))]),
    ("an item with a long key", [*parts(), item(b"x", Put(b"x" * 1025, b""))]),
    ("a version from the future", [*parts(), item(b"x", Put(b"", b""), b"\xff" * 16)]),
    ("an expiry beyond time", [*parts(), item(b"x", Put(b"", b"", expire_us=1 << 62))]),
    ("many attributes", [*parts(), item(b"x", Put(b"", b"", "", (("a", "b"),) * 17))]),
    ("a chunk of nothing", [*parts(), b"chunk"]),
    ("a big value without all of its chunks", [*parts()[:6], parts()[-1]]),
    ("a big value with a longer chunk", [*parts()[:5], BIG + b"x"]),
    ("another big value than it says", [*parts()[:5], BIG[1:] + BIG[:1]]),
]


@pytest.mark.parametrize(("what", "some"), IMPOSSIBLE, ids=[what for what, _ in IMPOSSIBLE])
def test_what_keeps_its_checksums_and_is_impossible_is_refused(what: str, some: list[Part]) -> None:
    data, _ = encoded(some)
    with pytest.raises((ExportInvalid, ChecksumMismatch)):
        decoded(data)


def test_payloads_that_are_not_what_their_kind_says_are_refused() -> None:
    whole, _ = encoded()
    head = whole[: next(iter(Frames().feed(whole))).at]
    header = encoded(parts()[:1])[0][len(head) : -END_SIZE]
    for payloads in (
        [(Kind.HEADER, b"{}")],
        [(Kind.HEADER, b"no json")],
        [(Kind.HEADER, b'{"taken_us": 1, "operation": "", "namespace": {"settings": 3}}')],
    ):
        with pytest.raises(ExportInvalid):
            decoded(head + b"".join(frame(kind, payload) for kind, payload in payloads))
    for kind, payload in ((Kind.RECORD, b"short"), (Kind.ITEM, b"short"), (Kind.CHUNK, b""), (Kind.END, b"x")):
        with pytest.raises((ExportInvalid, ChecksumMismatch)):
            decoded(head + header + frame(kind, payload))
    with pytest.raises((ExportInvalid, ChecksumMismatch)):
        record = frame(Kind.RECORD, VERSION + b"r")
        decoded(head + header + record + frame(Kind.ITEM, b"\xff" * 60))


def test_records_of_a_bound_namespace_are_names() -> None:
    data, _ = encoded([parts()[0], item(b"\xff\xfe", Put(b"", b""))])
    assert len(decoded(data)) == 3
    with pytest.raises(Exception, match="UTF-8"):
        decoded(data, bound=True)
