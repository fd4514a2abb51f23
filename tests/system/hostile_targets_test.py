"""Renderers that return nothing, garbage, ten gigabytes or never, and caches that fail or hang, under a real executor:
what they are asked for becomes dead letters with reasons, the rest of the work is unharmed, memory stays bounded."""

import contextlib
import time
from pathlib import Path

import pytest

import wellspring_client
from tests.system import hostile_stub
from tests.system.hostile_stub import Stub, serving
from tests.system.refusing import plain
from tools.platform import ports
from tools.platform.layout import SERVICES, Layout, Route, fixed_ports
from tools.platform.platform import Platform
from wellspring.propagation.v1 import propagation_pb2

WAIT_S = 180
GOOD = 300
BAD = 6
MIB = 1 << 20
OUTPUT_BYTES = MIB
# What an executor may take for them: answers under way are held up to their limit each, 12 at once here.
MORE_BYTES = 64 * MIB

REASONS = {
    "nothing": {"OUTPUT_EMPTY"},
    "garbage": {"RENDERER_MALFORMED"},
    "huge": {"OUTPUT_TOO_LARGE"},
    "endless": {"OUTPUT_TOO_LARGE"},
    "endless-headers": {"RENDERER_MALFORMED"},
    "never": {"RENDER_TIMEOUT"},
    "trickle": {"RENDER_TIMEOUT"},
    "cut": {"RENDERER_CONNECTION_LOST"},
    "failing": {"RENDERER_HTTP_500"},
}


def view(name, url, more=""):
    # Only who never ends is waited for as long as that: on a busy machine the others take their time, too.
    timeout = "2s" if REASONS.get(name) == {"RENDER_TIMEOUT"} else "60s"
    return f"""
  - name: {name}
    resource_prefixes: ["{name}/"]
    render: {{http: {{url: "{url}/{{title}}"}}, timeout: {timeout}, max_output_bytes: {OUTPUT_BYTES}}}
    store: {{namespace: {name}}}
    retry: {{max_attempts: 2, initial_backoff: 50ms, max_backoff: 200ms}}
{more}"""


@contextlib.contextmanager
def running(folder, views, caches):
    layout = Layout(
        data=folder,
        ports=fixed_ports(ports.free_base()),
        routes=(Route("/", "good"),),
        views="views:" + views,
        overrides={service: {"server": {"drain_wait": "50ms"}} for service in SERVICES}
        | {"executor": {"caches": caches, "lease_wait": "1s"}},
    )
    with Platform(layout, restart=False) as platform:
        at = platform.addresses
        with wellspring_client.connect(storage=at["storage"], propagation=at["propagation"], timeout=WAIT_S) as client:
            yield platform, client


def fill(client, view_name, count):
    """So many pages of the view, all made pending by one change; its id."""
    pages = {f"{view_name}/{number}": [f"in/{view_name}"] for number in range(count)}
    client.storage.create_namespace(view_name)
    client.propagation.declare(view_name, pages)
    return client.propagation.change(f"in/{view_name}", time.time_ns().to_bytes(16, "big")).root


def ended(client, root):
    """The change when it has ended."""
    for now in client.propagation.watch_change(root):
        last = now
    return last


def resident(platform, peak=True):
    """Bytes of memory that the executor has, or had at most."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    status = Path(f"/proc/{platform.pid('executor')}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(wanted))


def letters(client, view_name):
    return list(client.propagation.admin.dead_letters(view=view_name))


def test_renderers_of_every_bad_kind_harm_nobody_but_their_own_pages(tmp_path):
    good = Stub(hostile_stub.good)
    bad = {name: Stub(getattr(hostile_stub, name.replace("-", "_"))) for name in REASONS}
    with serving(good, *bad.values()):
        views = view("good", good.url) + "".join(view(name, stub.url) for name, stub in bad.items())
        with running(tmp_path, views, []) as (platform, client):
            assert ended(client, fill(client, "good", GOOD)).state == propagation_pb2.Root.STATE_DONE
            before = resident(platform)
            roots = {name: fill(client, name, BAD) for name in bad}
            # While those are asked, everybody else's pages are rendered.
            root = ended(client, fill(client, "good", GOOD))
            assert (root.state, root.progress.failed) == (propagation_pb2.Root.STATE_DONE, 0)
            reasons = {}
            for name, one in roots.items():
                root = ended(client, one)
                assert root.state == propagation_pb2.Root.STATE_DONE_WITH_FAILURES, (name, root)
                assert root.progress.failed == BAD, name
                found = letters(client, name)
                print(f"{name}: {found[0].reason}: {found[0].detail}; asked {bad[name].asked} times")
                assert len(found) == BAD
                reasons[name] = {letter.reason for letter in found}
            assert reasons == REASONS
            for letter in client.propagation.admin.dead_letters():
                plain(letter.detail)
            assert platform.running("executor")
            grown = resident(platform) - before
            print(f"the executor had {before // MIB} MiB, then {grown // MIB} MiB more at most")
            assert grown <= MORE_BYTES
            # It works on, and a renderer that has come to reason is believed.
            bad["huge"].behaviour = hostile_stub.good
            assert client.propagation.admin.replay_dead_letters(view="huge") == BAD
            until(lambda: not letters(client, "huge") and client.storage.namespace("huge").get("huge/0"))


def until(look):
    end = time.monotonic() + WAIT_S
    while not look():
        assert time.monotonic() < end, f"not so within {WAIT_S} s"
        time.sleep(0.1)


@pytest.mark.parametrize("behaviour", [hostile_stub.failing, hostile_stub.never, hostile_stub.garbage])
def test_a_bad_cache_harms_only_what_it_holds_and_is_purged_when_it_is_well(behaviour, tmp_path):
    renderer, cache = Stub(hostile_stub.good), Stub(behaviour)
    with serving(renderer, cache):
        views = view("good", renderer.url) + view("cached", renderer.url, '    purge: {urls: ["/{name}"]}\n')
        caches = [{"name": "edge", "urls": [cache.url], "timeout": "500ms"}]
        with running(tmp_path, views, caches) as (_, client):
            bad = fill(client, "cached", BAD)
            good = ended(client, fill(client, "good", GOOD))
            assert (good.state, good.progress.failed) == (propagation_pb2.Root.STATE_DONE, 0)
            root = ended(client, bad)
            assert (root.state, root.progress.failed) == (propagation_pb2.Root.STATE_DONE_WITH_FAILURES, BAD)
            found = letters(client, "cached")
            print(f"{found[0].reason}: {found[0].detail}")
            assert {letter.reason for letter in found} == {"PURGE_FAILED"}
            assert all("edge" in plain(letter.detail) for letter in found)
            # The cache is well again: the same pages are purged, though their bytes are those that are stored already.
            cache.behaviour, cache.asked = hostile_stub.good, 0
            assert client.propagation.admin.replay_dead_letters(view="cached") == BAD
            until(lambda: not letters(client, "cached") and cache.asked >= BAD)
