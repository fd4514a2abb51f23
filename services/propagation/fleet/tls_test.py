"""Engines of a fleet call each other over TLS with real certificates, and only those that may."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest

from libs.auth.options import AuthOptions
from libs.config.clients import client_tls
from libs.rpc.options import TlsOptions
from libs.rpc.testing.certificates import Authority
from services.propagation.fleet.testing.executor import VIEWS, declaration
from services.propagation.fleet.testing.serving import Fleet, Secured, serving
from services.propagation.simulation.calls import reason_of, refused
from wellspring.config.v1 import server_pb2
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb

T = "w/template"
PAGES = {f"w/page/{at}": [T] for at in range(40)}
RULES = {
    "spiffe://site/engine/*": ["wellspring.propagation.v1.*/*"],
    "spiffe://site/people": ["wellspring.propagation.v1.*/*"],
}


class Site:
    """Certificates of one authority, as files."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority()
        (folder / "ca.pem").write_bytes(self.authority.pem)
        self.caller = self.tls("people", "spiffe://site/people")

    def tls(self, name, uri, authority=None, **more):
        """What `engines_tls` makes of a certificate for this identity."""
        issued = (authority or self.authority).issue(uris=(uri,)).write(self.folder, name)
        certificate, key = issued
        ca_file = str(self.folder / "ca.pem")
        return client_tls(server_pb2.ClientTls(ca_file=ca_file, certificate_file=certificate, key_file=key, **more))

    def secured(self, name, **names):
        """An engine of this name, whose own certificate is for `names` (of 127.0.0.1 where none is given)."""
        identity = f"spiffe://site/engine/{name}"
        certificate, key = self.authority.issue(**(names or {"addresses": ("127.0.0.1",)})).write(self.folder, name)
        server = TlsOptions(certificate, key, str(self.folder / "ca.pem"))
        return Secured(server, AuthOptions(rules=RULES), self.tls(f"{name}-engines", identity), self.caller)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@asynccontextmanager
async def two(one, other):
    """Two engines that lead a shard each, with a graph over both; the first one's stubs."""
    fleet = Fleet(2)
    async with serving(fleet, [0], secured=one) as first, serving(fleet, [1], secured=other) as second:
        yield first, second


async def declared(stubs):
    await stubs.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS), timeout=30)
    request = pb.DeclareDependenciesRequest(packed=[declaration("html", PAGES)])
    return (await stubs.propagation.DeclareDependencies(request, timeout=30)).edges_added


def count(stubs, timeout=30):
    return stubs.propagation.CountDependents(pb.CountDependentsRequest(resource=T), timeout=timeout)


async def is_away(stubs):
    """Whether the shard of the other engine cannot be reached; on a busy machine the caller's time ends before that is
    known."""
    error = await refused(count(stubs, timeout=2))
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return True
    return (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "SHARD_AWAY")


async def listed(stubs):
    request = pb.ListDependentsRequest(resource=T)
    pages = [page.names.decode().split("\0") async for page in stubs.propagation.ListDependents(request, timeout=30)]
    return {name for page in pages for name in page}


def test_engines_with_certificates_do_what_engines_in_the_clear_do(site):
    async def main():
        async with two(site.secured("a"), site.secured("b")) as (first, second):
            assert await declared(first.stubs) == len(PAGES)
            for engine in (first, second):
                assert engine.shards.own[0 if engine is first else 1].engine.shard.store.edge_count < len(PAGES)
                assert (await count(engine.stubs)).total == len(PAGES)
                assert await listed(engine.stubs) == set(PAGES)

    asyncio.run(main())


def stranger(site):
    """A certificate of another authority, for the same name."""
    return site.tls("stranger", "spiffe://site/engine/a", Authority("of others"))


def nobody(site):
    """The right authority, and no certificate of its own."""
    return client_tls(server_pb2.ClientTls(ca_file=str(site.folder / "ca.pem")))


@pytest.mark.parametrize("shown", [stranger, nobody, lambda site: None], ids=["stranger", "nobody", "in the clear"])
def test_an_engine_that_cannot_show_who_it_is_reaches_no_other(site, shown):
    async def main():
        one = replace(site.secured("a"), engines=shown(site))
        async with two(one, site.secured("b")) as (first, second):
            assert await declared(second.stubs) == len(PAGES)
            assert await is_away(first.stubs)
            assert (await count(second.stubs)).total == len(PAGES), "the other way it goes"

    asyncio.run(main())


def test_an_engine_that_the_rules_do_not_name_is_refused_by_its_name(site):
    async def main():
        one = replace(site.secured("a"), engines=site.tls("cache", "spiffe://site/cache"))
        async with two(one, site.secured("b")) as (first, _):
            error = await refused(count(first.stubs))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "spiffe://site/cache" in (error.details() or "")

    asyncio.run(main())


def test_the_name_in_an_engines_certificate_is_looked_at(site):
    async def main():
        async with two(site.secured("a"), site.secured("b", dns=("engine-b.site",))) as (first, _):
            assert await is_away(first.stubs)
        named = site.tls("named", "spiffe://site/engine/a", server_name="engine-b.site")
        one = replace(site.secured("a"), engines=named)
        async with two(one, site.secured("b", dns=("engine-b.site",))) as (first, _):
            assert (await count(first.stubs)).total == 0

    asyncio.run(main())
