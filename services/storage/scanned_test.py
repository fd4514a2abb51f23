"""Pages of scans that are put together from bytes are, byte for byte, what the contract's messages serialise to."""

import pytest

from services.storage import answers, scanned
from services.storage.domain.model import Item
from services.storage.store.interface import ScannedRecord, ScanPage
from wellspring.storage.v1 import storage_pb2 as pb

VERSION = bytes(range(100, 116))
PLAIN = Item(b"", b"value", VERSION, 1_700_000_000_123_456, 0, "", (), 5, False)
ITEMS = [
    PLAIN,
    PLAIN._replace(value=b""),
    *(PLAIN._replace(key=b"k" * size) for size in (1, 127, 128, 1024)),
    *(PLAIN._replace(value=b"v" * size) for size in (127, 128, 16_383, 16_384, 1 << 20)),
    *(PLAIN._replace(content_type=kind) for kind in ("text/html", "x" * 128)),
    *(PLAIN._replace(write_us=time_us) for time_us in (0, 1, 999_999, 1_000_000, 1_700_000_000_000_000, 1 << 52)),
    PLAIN._replace(expire_us=1_800_000_000_000_000),
    PLAIN._replace(attributes=(("name", "é"),), content_type="é"),
    PLAIN._replace(value=b"", size=1 << 30, chunked=True),
    PLAIN._replace(version=b"\0" * 16),
    PLAIN._replace(version=b""),
]


def built(page: ScanPage, token: str, *, omit_values: bool) -> bytes:
    """The same by a message."""
    answer = pb.ScanResponse(resume_token=token)
    for found in page.records:
        record = answer.records.add(record=found.record, partial=found.partial)
        for item in found.items:
            answers.fill_item(record.items.add(), item, omit_value=omit_values)
    return answer.SerializeToString()


@pytest.mark.parametrize("omit_values", [False, True])
@pytest.mark.parametrize("token", ["", "t", "t" * 300])
def test_a_page_has_the_bytes_of_its_message(token: str, omit_values: bool) -> None:
    records = [ScannedRecord(b"r%d" % at, [item], at % 3 == 0) for at, item in enumerate(ITEMS)]
    records += [ScannedRecord(b"r" * size, [PLAIN], False) for size in (127, 128, 1024)]
    records += [ScannedRecord(b"wide", ITEMS, False), ScannedRecord(b"none", [], True)]
    for page in (ScanPage(records, None), ScanPage([], b"p"), *(ScanPage([one], None) for one in records)):
        found = scanned.answer(page, token, omit_values=omit_values)
        assert found == built(page, token, omit_values=omit_values)
