"""An operation as it is kept: what callers see of it, and what it takes to begin it again."""

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import Final

from wellspring.storage.v1 import storage_admin_pb2 as admin_pb

RUNNING: Final = admin_pb.Operation.STATE_RUNNING
SUCCEEDED: Final = admin_pb.Operation.STATE_SUCCEEDED
FAILED: Final = admin_pb.Operation.STATE_FAILED
CANCELLED: Final = admin_pb.Operation.STATE_CANCELLED


@dataclasses.dataclass(slots=True)
class Record:
    """``message`` is what callers see; ``arguments`` what the work is given; ``owner`` the server that runs it;
    ``attempts`` how often it was begun; ``cancelling`` whether somebody asked for its end."""

    message: admin_pb.Operation
    arguments: Mapping[str, str]
    owner: str
    attempts: int = 1
    cancelling: bool = False

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.message.state == RUNNING


def encode(record: Record) -> bytes:
    """The document of an operation."""
    words = {
        "message": base64.b64encode(record.message.SerializeToString()).decode(),
        "arguments": dict(record.arguments),
        "owner": record.owner,
        "attempts": record.attempts,
        "cancelling": record.cancelling,
    }
    return json.dumps(words).encode()


def decode(document: bytes) -> Record:
    """The operation in a document."""
    words = json.loads(document)
    message = admin_pb.Operation.FromString(base64.b64decode(words["message"]))
    return Record(message, words["arguments"], words["owner"], words["attempts"], words["cancelling"])
