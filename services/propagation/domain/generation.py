"""Generations of shards: a number of shards that grows makes a new one, out of which each old shard's parts go on.

The next generation has a multiple of the shards, and a shard goes on as so many of them as that is times more:
`partition.shard_of` gives these the old shard's resources and no others. Records, of the kind `generation`:

* `wanted`, in the first shard: a growth was asked for;
* `sealed`, in any shard: the last commit of its log, and with which epoch it was written;
* `dividing`: the store is the copy of another shard's, and has still to become a part of it (dividing.py).
"""

import json
from dataclasses import dataclass

from services.propagation.store.interface import Commit, Store

KIND = "generation"
_WANTED, _SEALED, _DIVIDING = b"wanted", b"sealed", b"dividing"
_SEQUENCE_BITS = 44
FIRST = 1


@dataclass(frozen=True, slots=True)
class Generation:
    """Generation `number`, from 1 on, of so many shards."""

    number: int
    shards: int

    @property
    def first_sequence(self) -> int:
        """All sequences that its shards give are above, those of all generations before below: so a sequence tells
        which generation gave it."""
        return self.number - FIRST << _SEQUENCE_BITS


@dataclass(frozen=True, slots=True)
class Seal:
    """A shard's log has ended, written by the owner of `epoch`; it goes on in the generation `follows`."""

    follows: Generation
    epoch: int


@dataclass(frozen=True, slots=True)
class Dividing:
    """How far a copy is: step `step`, there at `at` (a key of its own). It was one of `shards` shards before."""

    shards: int
    step: int = 0
    at: bytes = b""

    def put(self, commit: Commit) -> None:
        """Writes it."""
        value = {"shards": self.shards, "step": self.step, "at": self.at.hex()}
        commit.put_record(KIND, _DIVIDING, json.dumps(value).encode())


def put_wanted(commit: Commit, wanted: Generation) -> None:
    """The growth is asked for."""
    commit.put_record(KIND, _WANTED, _packed(wanted))


def wanted(store: Store) -> Generation | None:
    """What is asked for of the first shard, or said by the seal of any."""
    seal = sealed(store)
    kept = store.get_record(KIND, _WANTED)
    return seal.follows if seal is not None else _unpacked(kept) if kept is not None else None


def put_seal(commit: Commit, seal: Seal) -> None:
    """Nothing may be written behind it."""
    commit.put_record(KIND, _SEALED, seal.epoch.to_bytes(8, "big") + _packed(seal.follows))


def sealed(store: Store) -> Seal | None:
    """The seal, once it is there."""
    kept = store.get_record(KIND, _SEALED)
    return Seal(_unpacked(kept[8:]), int.from_bytes(kept[:8], "big")) if kept is not None else None


def begin_dividing(commit: Commit, shards: int) -> None:
    """The store is a copy of one of so many shards, made at its seal: it is a part of it from now on."""
    commit.delete_record(KIND, _SEALED)
    commit.delete_record(KIND, _WANTED)
    Dividing(shards).put(commit)


def dividing(store: Store) -> Dividing | None:
    """How far the store is; None for one that is no copy, or is divided."""
    kept = store.get_record(KIND, _DIVIDING)
    if kept is None:
        return None
    said = json.loads(kept)
    return Dividing(said["shards"], said["step"], bytes.fromhex(said["at"]))


def end_dividing(commit: Commit) -> None:
    """It is a part, and nothing else."""
    commit.delete_record(KIND, _DIVIDING)


def _packed(one: Generation) -> bytes:
    return json.dumps({"generation": one.number, "shards": one.shards}).encode()


def _unpacked(kept: bytes) -> Generation:
    said = json.loads(kept)
    return Generation(said["generation"], said["shards"])
