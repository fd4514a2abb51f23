"""The namespaces of the deployment: made, changed, ended, looked up at each request."""

import asyncio
import dataclasses
from collections.abc import Callable

from libs.errors.errors import FailedPrecondition, ResourceExhausted
from services.storage.domain.admission import Gate
from services.storage.domain.errors import NamespaceChanged, NamespaceExists, NamespaceNotFound
from services.storage.domain.namespace import Deployment, Namespace, Settings, check_settings
from services.storage.store.interface import Store


class Registry:
    """All namespaces, in memory; the store has them too, and first. One change at a time."""

    def __init__(
        self,
        store: Store,
        deployment: Deployment,
        clock_us: Callable[[], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        """``clock_us``: wall time, microseconds; ``monotonic_s``: for rates."""
        self._store = store
        self.deployment = deployment
        self._clock_us = clock_us
        self._monotonic_s = monotonic_s
        self._gates: dict[str, Gate] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Reads the namespaces from the store. Raises FailedPrecondition when one of them, or the deployment's default,
        allows more drift than the deployment's windows bear."""
        self._check_drift("namespace_defaults", self.deployment.drift_us)
        for namespace in await self._store.namespaces():
            self._check_drift(f"the namespace {namespace.name!r}", namespace.settings.max_clock_drift_us)
            self._set(namespace)

    def _check_drift(self, whose: str, drift_us: int) -> None:
        most_us = self.deployment.max_drift_us
        if drift_us > most_us:
            raise FailedPrecondition(
                f"{whose} allows a clock drift of {drift_us / 1e6:g} s; half of the token window and of the tombstone"
                f" grace, {most_us / 1e6:g} s, is the most: widen them",
                reason="WINDOWS_TOO_SHORT",
            )

    async def refresh(self) -> None:
        """Takes in what other servers of the store have made, changed and ended. Raises Unavailable."""
        async with self._changing:
            await self._refresh()

    async def _refresh(self) -> None:
        found = {namespace.name: namespace for namespace in await self._store.namespaces()}
        for name in [name for name in self._gates if name not in found]:
            del self._gates[name]
        for name, namespace in found.items():
            gate = self._gates.get(name)
            if gate is None or (gate.namespace is not namespace and gate.namespace != namespace):
                self._set(namespace)

    # Looking up

    def enter(self, name: str, identity: str, *, write: bool, count: int = 1) -> Gate:
        """The gate of the namespace, entered: call ``leave`` at the end. Raises as ``Gate.enter``."""
        gate = self._gates.get(name)
        if gate is None:
            raise NamespaceNotFound.named(name)
        gate.enter(identity, self._monotonic_s(), write=write, count=count)
        return gate

    def enter_batch(self, entered: dict[str, Gate], name: str, identity: str, *, write: bool) -> Gate:
        """As ``enter``, for one of a batch's many: the batch is one request in flight of each namespace in ``entered``,
        and every one of its operations is charged."""
        gate = entered.get(name)
        if gate is None:
            gate = entered[name] = self.enter(name, identity, write=write)
        else:
            gate.charge_next(self._monotonic_s, write=write)
        return gate

    def charge(self, namespace: Namespace, identity: str, *, write: bool, count: int) -> None:
        """Charges ``count`` more operations to work that was let in to ``namespace``. Raises what ``enter`` would now,
        and NamespaceNotFound when another namespace has its name."""
        gate = self.gate(namespace.name)
        if gate.namespace.number != namespace.number:
            raise NamespaceNotFound.named(namespace.name)
        gate.namespace.check_access(identity, write=write)
        gate.namespace.check_ready()
        gate.charge(self._monotonic_s(), write=write, count=count)

    def get(self, name: str) -> Namespace:
        """The namespace, in its grace period too. Raises NamespaceNotFound."""
        return self.gate(name).namespace

    def gate(self, name: str) -> Gate:
        """The gate of the namespace, without entering it. Raises NamespaceNotFound."""
        gate = self._gates.get(name)
        if gate is None:
            raise NamespaceNotFound.named(name)
        return gate

    def gates(self) -> list[Gate]:
        """Those of all namespaces that there are now."""
        return list(self._gates.values())

    def rates_per_s(self, name: str) -> tuple[float, float]:
        """Reads and writes a second, lately."""
        gate, now_s = self.gate(name), self._monotonic_s()
        return gate.reads.rate_per_s(now_s), gate.writes.rate_per_s(now_s)

    def page(
        self, after: str, size: int, *, bound_only: bool, show_deleting: bool
    ) -> tuple[list[Namespace], str | None]:
        """Namespaces whose names come after ``after``, in order, and the name to go on after (None at the end)."""
        names = sorted(name for name in self._gates if name > after)
        found: list[Namespace] = []
        for name in names:
            namespace = self._gates[name].namespace
            if (bound_only and namespace.settings.binding is None) or (namespace.purge_us and not show_deleting):
                continue
            if len(found) == size:
                return found, found[-1].name
            found.append(namespace)
        return found, None

    # Changing

    async def create(self, settings: Settings) -> Namespace:
        """A new namespace, or the one there is when it has the same settings. Raises InvalidArgument, NamespaceExists,
        NamespaceDeleted, ResourceExhausted."""
        check_settings(settings, self.deployment)
        async with self._changing:
            if settings.name not in self._gates:
                await self._refresh()
            gate = self._gates.get(settings.name)
            if gate is not None:
                gate.namespace.check_ready()
                if gate.namespace.settings == settings:
                    return gate.namespace
                raise NamespaceExists(
                    f"the namespace {settings.name!r} exists with other settings; UpdateNamespace changes them"
                )
            self._check_room()
            namespace = await self._store.create_namespace(settings, self._clock_us())
            self._set(namespace)
            return namespace

    async def update(self, name: str, etag: str, change: Callable[[Settings], Settings]) -> Namespace:
        """The namespace with ``change`` made to its settings. ``etag`` empty: whatever it is now. Raises
        NamespaceNotFound, NamespaceDeleted, NamespaceChanged, and what ``change`` and the checks raise."""
        async with self._changing:
            current = self.get(name)
            current.check_ready()
            _check_etag(current, etag)
            settings = change(current.settings)
            check_settings(settings, self.deployment)
            if settings == current.settings:
                return current
            return await self._replace(dataclasses.replace(current, settings=settings, revision=current.revision + 1))

    async def delete(self, name: str, etag: str, grace_us: int | None) -> Namespace:
        """Refuses reads and writes at once; the data goes after ``grace_us`` (None: the deployment's). Deleting it
        again changes nothing. Raises NamespaceNotFound, NamespaceChanged."""
        async with self._changing:
            current = self.get(name)
            _check_etag(current, etag)
            if current.purge_us:
                return current
            current.check_ready()
            grace_us = self.deployment.grace_us if grace_us is None else grace_us
            purge_us = self._clock_us() + max(1, grace_us)
            return await self._replace(dataclasses.replace(current, purge_us=purge_us, revision=current.revision + 1))

    async def undelete(self, name: str) -> Namespace:
        """Takes a delete back within its grace. Raises NamespaceNotFound, and FailedPrecondition when the namespace is
        not deleted."""
        async with self._changing:
            current = self.get(name)
            if not current.purge_us:
                raise FailedPrecondition(f"the namespace {name!r} is not deleted", reason="NAMESPACE_NOT_DELETED")
            return await self._replace(dataclasses.replace(current, purge_us=0, revision=current.revision + 1))

    async def begin_restore(self, settings: Settings, create_us: int) -> Namespace:
        """A new namespace that nobody may read or write before :meth:`end_restore`; the one there is when the same
        restore (its ``create_us``) began it. Raises InvalidArgument, NamespaceExists, ResourceExhausted."""
        self.check_restorable(settings, create_us)
        async with self._changing:
            self.check_restorable(settings, create_us)
            gate = self._gates.get(settings.name)
            if gate is not None:
                return gate.namespace
            namespace = await self._store.create_namespace(settings, create_us, restoring=True)
            self._set(namespace)
            return namespace

    def check_restorable(self, settings: Settings, create_us: int = 0) -> None:
        """Raises InvalidArgument when the deployment cannot have such a namespace, NamespaceExists when there is one
        that no restore with this ``create_us`` began, ResourceExhausted."""
        check_settings(settings, self.deployment)
        gate = self._gates.get(settings.name)
        if gate is None:
            self._check_room()
        elif gate.namespace.create_us != create_us:
            raise NamespaceExists(
                f"the namespace {settings.name!r} exists, and a restore makes a new one; take another name"
            )

    async def end_restore(self, name: str, create_us: int) -> Namespace:
        """Opens a namespace that is restored. Ending it again changes nothing. Raises NamespaceNotFound."""
        async with self._changing:
            current = self.get(name)
            if current.create_us != create_us or not current.restoring:
                return current
            return await self._replace(dataclasses.replace(current, restoring=False, revision=current.revision + 1))

    async def drop_restore(self, name: str, create_us: int) -> None:
        """Removes what a restore that did not end has left, if it has left something."""
        async with self._changing:
            gate = self._gates.get(name)
            if gate is not None and gate.namespace.restoring and gate.namespace.create_us == create_us:
                await self._store.purge_namespace(gate.namespace)
                del self._gates[name]

    def _check_room(self) -> None:
        if len(self._gates) >= self.deployment.max_namespaces:
            raise ResourceExhausted(
                f"the deployment has {len(self._gates)} namespaces, as many as its limits.max_namespaces allows",
                reason="NAMESPACES_EXHAUSTED",
            )

    async def purge_due(self) -> int:
        """Removes the namespaces whose grace is over; answers how many."""
        now_us, purged = self._clock_us(), 0
        for name in [gate.namespace.name for gate in self._gates.values() if gate.namespace.purge_us]:
            async with self._changing:
                gate = self._gates.get(name)
                if gate is not None and 0 < gate.namespace.purge_us <= now_us:
                    await self._store.purge_namespace(gate.namespace)
                    del self._gates[name]
                    purged += 1
        return purged

    async def _replace(self, namespace: Namespace) -> Namespace:
        await self._store.replace_namespace(namespace)
        self._set(namespace)
        return namespace

    def _set(self, namespace: Namespace) -> None:
        """Takes the namespace in; those in flight go on under the gate they came through."""
        before = self._gates.get(namespace.name)
        same = before is not None and before.namespace.number == namespace.number
        self._gates[namespace.name] = Gate(namespace, self._monotonic_s(), before.traffic if before and same else None)


def _check_etag(namespace: Namespace, etag: str) -> None:
    if etag and etag != namespace.etag:
        raise NamespaceChanged(
            f"the namespace {namespace.name!r} has changed: its etag is {namespace.etag}; get it again, then decide",
            metadata={"etag": namespace.etag},
        )
