"""Engines of a group that have other rules, events, targets or homes than the one that works with them are told of."""

import asyncio
import logging
from functools import partial

import grpc
import pytest

from services.propagation.fleet import alike, comparing
from services.propagation.fleet.alike import Alike
from services.propagation.fleet.comparing import Comparing
from services.propagation.fleet.digests import digests
from services.propagation.fleet.shards import SHARD_HEADER
from services.propagation.fleet.testing.serving import Fleet, serving
from wellspring.config.v1 import propagation_pb2 as config_pb2
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import shards_pb2

RULES, EVENTS = b"r" * 32, b"e" * 32


async def others(engine):
    """As the status has them."""
    status = await engine.stubs.admin.GetStatus(admin_pb2.GetStatusRequest())
    return {one.engine: list(one.settings) for one in status.other_settings}


def telling(engine, **own):
    """What tells for an engine, once; `own` are its digests from now on."""
    engine.deployment.alike.own = lambda: own
    compares = Comparing(engine.deployment.alike, lambda: engine.shards)
    return compares, lambda: compares.tell(engine.address)


def differ(compares):
    """What the metric says, by setting."""
    (family,) = compares.collect()
    return {sample.labels["setting"]: sample.value for sample in family.samples}


def test_who_differs_is_told_by_both_and_by_whoever_is_asked_wherever_the_first_shard_is(caplog):
    async def main():
        fleet = Fleet(2)
        async with serving(fleet, [0]) as first, serving(fleet, [1]) as second, serving(fleet) as spare:
            of_first, first_tells = telling(first, rules_file=RULES, events=EVENTS)
            of_second, second_tells = telling(second, rules_file=b"other", events=EVENTS)
            of_spare, spare_tells = telling(spare, rules_file=RULES, events=EVENTS)
            with caplog.at_level(logging.WARNING):
                for _ in range(2):
                    for tells in (first_tells, second_tells, spare_tells):
                        await tells()
            assert (of_first.differing, of_second.differing, of_spare.differing) == ([], ["rules_file"], [])
            assert differ(of_second) == {"events": 0, "rules_file": 1}
            assert differ(of_first) == differ(of_spare) == {"events": 0, "rules_file": 0}
            for engine in (first, second):
                assert await others(engine) == {second.address: ["rules_file"]}
            said = sorted(record.getMessage() for record in caplog.records)
            assert [one.partition(" has other settings")[0] for one in said] == ["an engine", "this engine"], (
                "once each"
            )
            # The one that differs runs the rules now: all others differ from it.
            await second.lead(0)
            await first.lose(0)
            for tells in (first_tells, second_tells, spare_tells):
                await tells()
            assert (of_first.differing, of_second.differing, of_spare.differing) == (["rules_file"], [], ["rules_file"])
            assert await others(spare) == dict.fromkeys((first.address, spare.address), ["rules_file"])
            # It gets the file, too.
            second.deployment.alike.own = first.deployment.alike.own
            for tells in (first_tells, second_tells, spare_tells):
                await tells()
            assert of_first.differing == of_spare.differing == []
            assert await others(spare) == {}

    asyncio.run(main())


def test_a_setting_that_one_release_knows_differs_from_nothing():
    async def main():
        now_s = 0.0
        kept = Alike(lambda: {"rules_file": RULES, "newer": b"n"}, lambda: now_s)
        assert await kept.compare("a", {"rules_file": RULES, "older": b"o"}) == []
        assert await kept.compare("a", {"rules_file": b"other"}) == ["rules_file"]
        now_s += alike.KEPT_S - 1
        assert kept.others == {"a": ["rules_file"]}
        now_s += 2
        assert kept.others == {}, "it tells nothing any more"

    asyncio.run(main())


def test_engines_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(alike, "MOST_ENGINES", 2)

    async def main():
        kept = Alike(lambda: {"rules_file": RULES})
        for engine in ("a", "b", "a", "c"):
            await kept.compare(engine, {"rules_file": b"other"})
        assert list(kept.others) == ["a", "c"]

    asyncio.run(main())


def test_it_is_told_again_and_again_and_what_cannot_be_read_or_asked_is_told_later(monkeypatch):
    monkeypatch.setattr(comparing, "_EVERY_S", 0.001)

    async def main():
        fleet = Fleet(2)
        async with serving(fleet) as first, serving(fleet) as second:
            telling(first, rules_file=RULES)
            compares, _ = telling(second, rules_file=RULES)
            read = asyncio.Event()
            loop = asyncio.get_running_loop()

            def unreadable():
                loop.call_soon_threadsafe(read.set)
                raise FileNotFoundError("rules.yaml")

            async with asyncio.timeout(60):
                running = asyncio.create_task(compares.run(second.address))
                first.deployment.alike.own = second.deployment.alike.own = unreadable
                await read.wait()
                await first.lead(0)
                read.clear()
                await read.wait()
                first.deployment.alike.own = lambda: {"rules_file": RULES}
                for digest, wanted in ((b"other", ["rules_file"]), (RULES, [])):
                    second.deployment.alike.own = partial(dict, rules_file=digest)
                    while True:
                        await asyncio.sleep(0.002)
                        if compares.differing == wanted:
                            break
            running.cancel()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("shard", "request_", "says"),
    [
        (1, {"engine": "a"}, "first shard"),
        (0, {}, "engine: 1 to 256"),
        (0, {"engine": "a" * 257}, "engine: 1 to 256"),
        (0, {"engine": "a", "settings": {str(at): b"" for at in range(65)}}, "settings"),
        (0, {"engine": "a", "settings": {"x": bytes(65)}}, "at most 64 bytes"),
        (None, {"engine": "a"}, "wellspring-shard"),
    ],
)
def test_what_engines_do_not_ask_is_refused(shard, request_, says):
    async def main():
        async with serving(Fleet(2), [0, 1]) as engine:
            metadata = [] if shard is None else [(SHARD_HEADER, str(shard))]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await engine.stubs.across.CompareSettings(
                    shards_pb2.CompareSettingsRequest(**request_), metadata=metadata
                )
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert says in caught.value.details()
            assert await others(engine) == {}

    asyncio.run(main())


def config(folder, **changes):
    """One that has everything, with files of its own."""
    folder.mkdir(exist_ok=True)
    for name in ("rules", "views"):
        (folder / f"{name}.yaml").write_text(changes.pop(name, f"{name}: {{}}"))
    made = config_pb2.PropagationConfig(
        rules_file=str(folder / "rules.yaml"), views_file=str(folder / "views.yaml"), datacentre="west"
    )
    made.events.kafka.bootstrap_servers.append(f"{folder.name}:9092")
    made.events.topics[:] = changes.pop("topics", ["a", "b"])
    made.events.http.listen.append(f"127.0.0.1:{len(folder.name)}")
    made.homes.add(datacentre=changes.pop("home", "east")).propagation.addresses.append(f"{folder.name}:8003")
    made.targets.add(
        origin="https://a", authorization_file=f"{folder.name}/key", max_concurrency=changes.pop("most", 3)
    )
    made.canaries.add(name=changes.pop("canary", "wiki"))
    assert not changes
    return made


def test_a_digest_is_of_what_engines_must_have_alike_and_of_nothing_else(tmp_path):
    one = digests(config(tmp_path / "one"))
    assert digests(config(tmp_path / "another")) == one, "addresses and paths are each machine's own"
    assert digests(config(tmp_path / "one", topics=["b", "a"])) == one
    for changes, setting in (
        ({"rules": "rules: {x: {}}"}, "rules_file"),
        ({"views": "views: []"}, "views_file"),
        ({"topics": ["a"]}, "events"),
        ({"topics": ["ab"]}, "events"),
        ({"home": "north"}, "homes"),
        ({"most": 4}, "targets"),
        ({"canary": "news"}, "canaries"),
    ):
        other = digests(config(tmp_path / "one", **changes))
        assert [name for name in one if one[name] != other[name]] == [setting]
    assert set(digests(config_pb2.PropagationConfig())) == set(one)


def test_a_file_that_is_replaced_has_another_digest_at_once(tmp_path):
    made = config(tmp_path / "one")
    before = digests(made)
    (tmp_path / "one" / "rules.yaml").write_text("rules: {y: {}}")
    assert digests(made)["rules_file"] != before["rules_file"]
    (tmp_path / "one" / "rules.yaml").unlink()
    with pytest.raises(OSError, match="rules"):
        digests(made)
