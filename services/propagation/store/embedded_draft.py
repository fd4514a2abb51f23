"""A draft: the puts and deletes of one write, gathered while later steps of the same write already read them."""

from collections.abc import Iterable, Sequence

from libs.embedded.batch import Batch
from libs.embedded.family import Family


class Draft:
    """Changes on top of what the families hold. Nothing is visible outside before `fill` and the batch's submission."""

    def __init__(self) -> None:
        self._changes: dict[str, tuple[Family, dict[bytes, bytes | None]]] = {}

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value as it will be."""
        _, changed = self._changes.get(family.name, (family, {}))
        return changed[key] if key in changed else family.get(key)

    def get_many(self, family: Family, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values as they will be."""
        _, changed = self._changes.get(family.name, (family, {}))
        if not changed or changed.keys().isdisjoint(keys):
            return family.get_many(keys)
        found: dict[bytes, bytes | None] = {key: changed[key] for key in keys if key in changed}
        rest = [key for key in keys if key not in found]
        found.update(zip(rest, family.get_many(rest), strict=True))
        return [found[key] for key in keys]

    def changed(self, family: Family) -> dict[bytes, bytes | None]:
        """The keys changed so far, None where they are removed. The caller may change more."""
        return self._changes.setdefault(family.name, (family, {}))[1]

    def put(self, family: Family, key: bytes, value: bytes) -> None:
        """Sets a key."""
        self.changed(family)[key] = value

    def put_many(self, family: Family, items: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Sets keys, or removes those with None."""
        self.changed(family).update(items)

    def delete(self, family: Family, key: bytes) -> None:
        """Removes a key, whether it is there or not."""
        self.changed(family)[key] = None

    def fill(self, batch: Batch) -> None:
        """Puts all of it into the batch."""
        for family, changed in self._changes.values():
            batch.put_many(family, [(key, value) for key, value in changed.items() if value is not None])
            batch.delete_many(family, [key for key, value in changed.items() if value is None])
