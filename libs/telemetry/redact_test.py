"""Redaction: whatever the message, no secret and no body comes out of it."""

import json
from typing import Any

from google.protobuf import any_pb2
from hypothesis import given
from hypothesis import strategies as st

from libs.telemetry.redact import REDACTED, redact
from wellspring.bench.v1 import echo_pb2 as pb

CANARY = "canary-7f3a"


def test_secrets_are_known_by_type_and_by_mark() -> None:
    message = pb.SayRequest(
        payload=b"12345",
        secret=pb.Secret(value=CANARY),
        password=CANARY,
        label="shown",
        secrets={"a": pb.Secret(value=CANARY)},
    )
    assert redact(message) == {
        "payload": "<5 bytes>",
        "secret": REDACTED,
        "password": REDACTED,
        "label": "shown",
        "secrets": REDACTED,
    }
    assert redact(pb.Secret(value=CANARY)) == {REDACTED: REDACTED}


def test_a_secret_packed_in_any_stays_inside() -> None:
    packed = any_pb2.Any()
    packed.Pack(pb.SayRequest(password=CANARY))
    assert CANARY not in json.dumps(redact(packed))


def test_nested_messages_are_walked() -> None:
    shown = redact(pb.SayRequest(behaviour=pb.Behaviour(wait_ms=3, fail_with="x")))
    assert shown == {"behaviour": {"wait_ms": 3, "fail_with": "x"}}


def test_long_texts_and_lists_are_cut_and_say_so() -> None:
    assert redact(pb.SayRequest(label="x" * 1000))["label"].endswith("... (1000 characters)")
    shown = redact(pb.SayBatchRequest(payloads=[b"x"] * 1000))["payloads"]
    assert len(shown) == 17 and shown[-1] == "... 984 more"
    from google.protobuf import struct_pb2

    many = struct_pb2.Struct()
    many.update({f"k{number}": number for number in range(100)})
    assert redact(many)["fields"]["..."] == "84 more"


def test_deep_nesting_ends() -> None:
    from google.protobuf import struct_pb2

    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    message = struct_pb2.Value()
    message.list_value.extend(deep)
    assert "nested deeper" in json.dumps(redact(message))


@given(st.binary(), st.text(max_size=2000), st.dictionaries(st.text(), st.text(), max_size=30))
def test_no_secret_comes_out_of_any_message(payload: bytes, label: str, secrets: dict[str, str]) -> None:
    message = pb.SayRequest(payload=payload, label=label, password=CANARY, secret=pb.Secret(value=CANARY))
    for name, value in secrets.items():
        message.secrets[name].value = CANARY + value
    assert CANARY not in json.dumps(redact(message)) or CANARY in label
