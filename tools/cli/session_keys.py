"""`wellspring session keys`: the keyring's keys seen, added, promoted and retired while the service runs."""

import time
from pathlib import Path

import click

from services.session.crypto import rotation
from services.session.crypto.keyring import Key, Keyring, KeyringUnusable
from services.session.crypto.rotation import ROTATED, KeyStateWrong
from tools.cli.failures import BAD_DATA, CONFLICT, Failure
from tools.cli.output import counted, iso
from tools.cli.target import Target, target_options
from wellspring.session.v1 import session_admin_pb2 as pb


@click.group()
def keys() -> None:
    """Keys of the session service: a new one is added, promoted, and the old one retired.

    \b
    A rotation, on the machine of the service and without stopping it
      wellspring session keys add seal --keyring /etc/wellspring/session-keyring.json
      wellspring session keys promote seal-2
      wellspring session keys retire seal-1
    Back the keyring up after adding: data written with a key is lost without it.
    """


@keys.command("list")
@target_options
def list_(to: Target) -> None:
    """List the keys: next ones, active ones, those that retire, and those that are no more."""
    with to.client() as client:
        found = client.session.list_keys()
    rows = [(_told(key), (key.key_id, key.purpose, _state(key), iso(key.create_time))) for key in found]
    to.out.table(["key", "purpose", "state", "made"], rows, "there is no key")


@keys.command()
@click.argument("purpose", type=click.Choice(ROTATED))
@click.option(
    "--keyring", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The service's keyring_file."
)
@target_options
def add(to: Target, purpose: str, keyring: Path) -> None:
    """Add a new random key for PURPOSE to the keyring's file, as the next one. The service is not asked.

    \b
    Example
      wellspring session keys add seal --keyring /etc/wellspring/session-keyring.json
    """
    made: list[Key] = []

    def with_one_more(ring: Keyring) -> Keyring:
        changed, key = rotation.added(ring, purpose, int(time.time()))
        made.append(key)
        return changed

    try:
        rotation.change(keyring, with_one_more)
    except KeyStateWrong as error:
        raise Failure(f"--keyring: {error.message}", CONFLICT) from None
    except KeyringUnusable as error:
        raise Failure(f"--keyring: {error.message}", BAD_DATA) from None
    key_id = made[0].key_id
    to.out.object(
        {"key_id": key_id, "state": "next"},
        f"{key_id} is in {keyring}; back it up, then: wellspring session keys promote {key_id}",
    )


@keys.command()
@click.argument("key_id")
@target_options
def promote(to: Target, key_id: str) -> None:
    """Make KEY_ID the key that is used for what is new. What older keys made stays good.

    \b
    Example
      wellspring session keys promote seal-2
    """
    with to.client() as client:
        key = client.session.promote_key(key_id)
    to.out.object(_told(key), f"{key.key_id} is the active key")


@keys.command()
@click.argument("key_id")
@target_options
def retire(to: Target, key_id: str) -> None:
    """Seal anew what KEY_ID sealed, then forget it; refused while something else needs it.

    Stop it and start it again whenever you like: what is done stays done. Each step is told as it ends; for programs
    each is an object with the rows that remain. Before you retire a signing key, keep the key set (the audit's heads of
    its time are checked with it).

    \b
    Example
      wellspring session keys retire seal-1
    """
    with to.client() as client:
        while True:
            key = client.session.retire_key(key_id)
            if key.state == pb.Key.STATE_RETIRED:
                to.out.object(_told(key), f"{key.key_id} is retired")
                return
            if to.out.as_json:
                to.out.object(_told(key))
            else:
                to.out.note(f"{key.key_id}: {counted(key.remaining, 'row')} to go")


def _told(key: pb.Key) -> dict[str, str | int]:
    told: dict[str, str | int] = {"key_id": key.key_id, "purpose": key.purpose, "state": _state(key)}
    return told | {"create_time": iso(key.create_time), "remaining": key.remaining}


def _state(key: pb.Key) -> str:
    return pb.Key.State.Name(key.state).removeprefix("STATE_").lower()
