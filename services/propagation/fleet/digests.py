"""Digests of what the engine of the first shard works with alone: the same wherever that is the same.

What belongs to a machine is left out: paths of files, addresses of brokers and of other data centres' engines.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from services.propagation.fleet.alike import Digests
from wellspring.config.v1 import propagation_pb2


def digests(config: propagation_pb2.PropagationConfig) -> Digests:
    """By the setting's name. Of files, what is in them now; raises OSError."""
    targets = []
    for target in config.targets:
        shared = propagation_pb2.Target()
        shared.CopyFrom(target)
        shared.ClearField("authorization_file")
        shared.ClearField("tls")
        targets.append(shared.SerializeToString(deterministic=True))
    events = config.events
    schemas = [f"{topic} {title}" for topic, title in events.schemas.items()]
    return {
        "canaries": _digest(sorted(one.SerializeToString(deterministic=True) for one in config.canaries)),
        "events": _digest(_texts([*events.topics, *schemas])),
        "homes": _digest([config.datacentre.encode(), *_texts(home.datacentre for home in config.homes)]),
        "rules_file": _digest([Path(config.rules_file).read_bytes()] if config.rules_file else []),
        "targets": _digest(sorted(targets)),
        "views_file": _digest([Path(config.views_file).read_bytes()] if config.views_file else []),
    }


def _texts(texts: Iterable[str]) -> list[bytes]:
    return sorted(text.encode() for text in texts)


def _digest(parts: Iterable[bytes]) -> bytes:
    """Of the parts, each by itself: what is moved from one to the next makes another."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
