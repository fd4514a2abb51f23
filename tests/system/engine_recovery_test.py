"""The engine's process with a full disk, under a clock that jumps, and killed with -9 in the middle of a re-render and
of a change of its views: what was acknowledged is there, and everything comes to its end."""

import os
import random
import shutil
import threading
import time

import pytest

import wellspring_client
from tests.system.playing import Player
from tests.system.refusing import plain
from tests.system.served import Served
from tools.platform.layout import MODULES
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client.errors import QuotaExceeded, Unavailable, WellspringError

MIB = 1 << 20
DONE = propagation_pb2.Root.STATE_DONE
VIEW = "page"
VIEWS = """
views:
  - name: page
    resource_prefixes: ["page/"]
    render: {entry_point: {function: "example:render"}}
    store: {namespace: rendered}
    lease_time: 2s
"""
SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
WAIT_S = 300


def version(number):
    return number.to_bytes(16, "big")


@pytest.fixture
def served(tmp_path):
    """Makes engines in the same folder, with more configuration; killed at the end."""
    made = []
    (tmp_path / "views.yaml").write_text(VIEWS)

    def make(views_file=str(tmp_path / "views.yaml"), **config):
        one = Served(tmp_path / "engine", "propagation", "grpcio", {"views_file": views_file, **config})
        made.append(one)
        return one

    yield make
    for one in made:
        one.kill()


def embedded(tmp_path, **more):
    return {"embedded": {"path": str(tmp_path / "engine" / "data"), **more}}


def connected(served, timeout=60):
    return wellspring_client.connect(propagation=served.address, timeout=timeout)


def pages_of(template, count=200):
    """Pages with long names, that a log fills up with."""
    return {f"page/{template}/{number}/{'x' * 200}": [f"template/{template}"] for number in range(count)}


def load(engine, template):
    """Declares pages and edits their template; the change's id."""
    engine.declare(VIEW, pages_of(template))
    return engine.change(f"template/{template}", version(1), id=f"edit-{template}").root


def whole(engine, acknowledged):
    """Every acknowledged template has its pages and its change, and all of them are rendered."""
    player = Player(VIEW)
    for template in acknowledged:
        assert engine.count_dependents(f"template/{template}").total == len(pages_of(template)), template
        assert player.until_done(engine, f"edit-{template}") == DONE
    everything = {page for template in acknowledged for page in pages_of(template)}
    before = sorted(everything - player.rendered.keys())
    for page in before[:: max(1, len(before) // 200)]:  # Rendered before the engine was ended: it must know.
        explained = engine.explain(page, VIEW)
        assert not explained.pending and explained.rendered_at, page


def test_a_disk_that_ends_in_the_middle_of_a_write_loses_nothing_acknowledged(served, tmp_path):
    """The limit of a file's size stands for the disk's end: every write beyond it fails."""
    more = {"reserve_bytes": 0, "write_buffer_bytes": 64 * MIB, "log_bytes": 256 * MIB}
    one = served(backend=embedded(tmp_path, **more))
    whole_disk = one.process.command
    one.process.command = ["prlimit", f"--fsize={4 * MIB}", *whole_disk]
    one.start()
    acknowledged, errors, player = [], [], Player(VIEW)
    with connected(one) as client:
        for template in range(400):
            try:
                load(client.propagation, template)
                acknowledged.append(template)
                player.turn(client.propagation)
            except WellspringError as error:
                errors.append(error)
                if len(errors) == 3:
                    break
        assert errors, "the disk never became full"
        print(f"{len(acknowledged)} templates acknowledged; then: {[(e.reason, e.message) for e in errors]}")
        for told in errors:
            assert isinstance(told, QuotaExceeded | Unavailable) and told.reason, told
            plain(told.message)
        assert one.process.running
    one.kill()
    one.process.command = whole_disk
    one.start()
    with connected(one) as client:
        whole(client.propagation, acknowledged)
        load(client.propagation, "after")
        whole(client.propagation, [*acknowledged, "after"])


def test_at_the_reserve_edits_are_refused_and_room_is_noticed(served, tmp_path):
    free = shutil.disk_usage(tmp_path).free
    room = min(2 << 30, free // 2)
    one = served(backend=embedded(tmp_path, reserve_bytes=free - room))
    one.start()
    with connected(one) as client:
        engine = client.propagation
        load(engine, "before")
        balloon = tmp_path / "balloon"
        with balloon.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, min(3 << 30, shutil.disk_usage(tmp_path).free - (256 << 20)))
        acknowledged, refused = ["before"], None
        for template in range(1_000):  # The disk is asked again after every 16 MiB written.
            try:
                load(engine, template)
                acknowledged.append(template)
            except WellspringError as error:
                refused = error
                break
        assert refused is not None, "a full disk was never noticed"
        print(f"{len(acknowledged)} templates acknowledged; then {refused.reason}: {refused.message}")
        assert isinstance(refused, QuotaExceeded | Unavailable) and refused.reason
        plain(refused.message)
        balloon.unlink()
        end = time.monotonic() + WAIT_S
        while True:
            try:
                load(engine, "after")
                break
            except WellspringError as error:
                plain(error.message)
                assert time.monotonic() < end, f"room is not noticed: {error}"
                time.sleep(0.1)
        whole(engine, [*acknowledged, "after"])


def test_a_wall_clock_that_jumps_loses_nothing_and_turns_nothing_back(served, tmp_path):
    """Forward and back by hours, under way and over restarts, with a lease out and a retry waiting each time."""
    print(f"SEED={SEED}")
    rng = random.Random(SEED)
    offset = tmp_path / "offset"
    offset.write_text("0")
    # No lease is left behind here, and none must end by itself while a busy machine takes its time.
    (tmp_path / "views.yaml").write_text(VIEWS.replace("lease_time: 2s", "lease_time: 600s"))
    one = served(retry={"max_attempts": 3, "initial_backoff": "200ms", "max_backoff": "200ms"})
    at = one.process.command.index("-m")
    jumping = [*one.process.command[:at], "-m", "tests.system.jumping", str(offset), MODULES["propagation"]]
    one.process.command = [*jumping, *one.process.command[at + 2 :]]
    one.start()
    player = Player(VIEW, items=40)
    changes = []
    for number, hours in enumerate([1, -2, 26, -48, 0, rng.randrange(-100, 100)]):
        with connected(one) as client:
            engine = client.propagation
            if not number:
                engine.declare(VIEW, {f"page/{n}": ["template/t"] for n in range(200)})
            player.edition = number
            changes.append(engine.change("template/t", version(number + 1)).root)
            player.turn(engine)
            (held,) = player.lease(engine)
            offset.write_text(str(hours * 3600))
            # The lease is as good as it was: its end is on the clock that does not jump.
            assert player.complete(engine, held) == 40
            player.turn(engine)
        if rng.random() < 0.5:
            one.kill()
            one.start()
        with connected(one) as client:
            engine = client.propagation
            assert player.until_done(engine, changes[-1]) == DONE
            assert [engine.get_change(change).state for change in changes] == [DONE] * len(changes)
    assert player.versions == sorted(set(player.versions)), "a render was ordered before an earlier one"
    # Who read about the changes in their order finds them in their order.
    with connected(one) as client:
        sequences = [client.propagation.get_change(change).sequence for change in changes]
        assert sequences == sorted(sequences)


def test_killed_in_the_middle_of_a_rerender_it_goes_on_under_the_same_root(served):
    print(f"SEED={SEED}")
    rng = random.Random(SEED)
    one = served()
    one.start()
    names = [f"page/{number}" for number in range(4_000)]
    player = Player(VIEW)
    with connected(one) as client:
        client.propagation.declare(VIEW, {name: ["template/t"] for name in names})
        root = client.propagation.change("template/t", version(1)).root
        assert player.until_done(client.propagation, root) == DONE
    player.rendered.clear()
    player.sent.clear()
    kills = 0
    while True:
        with connected(one) as client:
            # The same again, as one does who does not know what became of it.
            answer = client.propagation.admin.rerender(VIEW, id="again", publish_unchanged=True)
            assert answer.root == "again"
            state = client.propagation.get_change("again").state
            if state == DONE:
                break
            if kills == 6:
                assert player.until_done(client.propagation, "again") == DONE
                continue
            killer = threading.Timer(rng.uniform(0.0, 0.15), one.kill)
            killer.start()
            try:
                while True:
                    player.turn(client.propagation)
            except WellspringError as error:
                assert isinstance(error, Unavailable), error
            killer.join()
        kills += 1
        one.start()
    assert player.sent == set(names)
    assert max(player.rendered.values()) == 1, "an acknowledged render was asked for again"
    with connected(one) as client:
        progress = client.propagation.get_change("again").progress
        assert (progress.total, progress.done) == (len(names), len(names))


def test_killed_in_the_middle_of_a_change_of_views_it_has_the_old_ones_or_the_new_ones(served):
    print(f"SEED={SEED}")
    rng = random.Random(SEED)
    one = served(views_file="")
    one.start()

    def text(number):
        more = f"""
  - name: more{number}
    resource_prefixes: ["more{number}/"]
    render: {{entry_point: {{function: "example:render"}}}}
    store: {{namespace: more{number}}}
"""
        return VIEWS + more

    with connected(one) as client:
        assert not client.propagation.admin.put_views(text(0)).mistakes
        revision = client.propagation.admin.list_views().revision
        client.propagation.declare(VIEW, {f"page/{n}": ["template/t"] for n in range(50)})
    player, accepted = Player(VIEW), 0
    for number in range(1, 7):
        with connected(one, timeout=5) as client:
            root = client.propagation.change("template/t", version(number)).root
            killer = threading.Timer(rng.uniform(0.0, 0.02), one.kill)
            killer.start()
            try:
                answer = client.propagation.admin.put_views(text(number))
                assert not answer.mistakes
                accepted, revision = number, answer.revision
            except Unavailable:
                pass  # It may have been taken all the same.
            killer.join()
        one.start()
        with connected(one) as client:
            now = client.propagation.admin.list_views()
            names = {view.name for view in now.views}
            assert names in ({VIEW, f"more{accepted}"}, {VIEW, f"more{number}"}), f"neither old nor new: {names}"
            assert now.revision >= revision
            accepted = number if f"more{number}" in names else accepted
            revision = now.revision
            assert player.until_done(client.propagation, root) == DONE


def test_a_killed_engine_takes_the_views_file_as_it_is_then(served, tmp_path):
    one = served()
    one.start()
    (tmp_path / "views.yaml").write_text(VIEWS.replace("lease_time: 2s", "lease_time: 3s"))
    one.kill()
    one.start()
    with connected(one) as client:
        (view,) = client.propagation.admin.list_views().views
        assert view.lease_time.seconds == 3
