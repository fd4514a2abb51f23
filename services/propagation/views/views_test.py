"""The views file: what is refused, where, and what is filled in."""

import asyncio
import os
from random import Random

import pytest

from libs.clock.clock import SystemClock
from libs.config.config import ConfigError
from services.propagation.domain.engine import Engine
from services.propagation.domain.shard import Settings
from services.propagation.files import views_file
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.circles import circles
from services.propagation.views.parsing import Defaults, mistakes_in, read_views

GOOD = """\
views:
  - name: html
    resource_prefixes: [enwiki/page/]
    source_namespace: wiki
    source_prefix: enwiki/page/
    render: {entry_point: {function: "examples.wiki.renderer:render"}, timeout: 5s}
    store: {namespace: html, record: "{name}"}
    purge: {urls: ["http://gateway/{path}"], tags: ["{resource}"]}
    settle_delay: 2s
"""


def changed(old, new):
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_a_good_file_is_completed():
    (view,) = read_views(GOOD, Defaults(lease_s=7, max_dependencies=50))
    assert view.lease_time.seconds == 7 and view.max_dependencies == 50
    assert view.retry.max_attempts == 5 and view.render.timeout.seconds == 5
    assert view.settle_delay.seconds == 2 and view.store.record == "{name}"
    (plain,) = read_views(changed(', record: "{name}"', ""), Defaults())
    assert plain.store.record == "{resource}"


def test_a_view_may_only_call():
    store = '    store: {namespace: html, record: "{name}"}\n'
    calls = '    calls: [{url: "http://h/{title}?v={version}", body: \'{"page": "{resource}", "n": {"a": 1}}\'}]\n'
    (view,) = read_views(changed(store, calls), Defaults())
    assert not view.store.record and view.calls[0].url == "http://h/{title}?v={version}"
    twice = changed(store, calls) + changed(store, calls).removeprefix("views:\n").replace("name: html", "name: other")
    assert len(read_views(twice, Defaults())) == 2


def test_an_empty_file_has_no_views():
    assert read_views("", Defaults()) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("name: html", "name: Html", 2, "no name of a view"),
        ("    source_prefix", "    sauce_prefix", 5, "source_prefix"),
        ("[enwiki/page/]", "[]", 3, "at least one prefix"),
        ("[enwiki/page/]", "[view/html/]", 3, "outputs"),
        ("[enwiki/page/]", "[v]", 3, "outputs"),
        ("[enwiki/page/]", "[a/, a/]", 3, "twice"),
        ("[enwiki/page/]", '["a\\tb"]', 3, "control character"),
        ("namespace: html", "namespace: wiki", 7, "own source"),
        ("{namespace: html, ", "{", 7, "is missing"),
        ('"{name}"', '"{title}"', 7, "{resource}, {name}"),
        ('"{name}"', '"{name"', 7, "not closed"),
        ('"{name}"', '"{name!r}"', 7, "uses"),
        ('"{name}"', '"{0}"', 7, "uses"),
        ('"{name}"', '"page"', 7, "same for all"),
        ("gateway/{path}", "gateway/{nmae}", 8, "{path}"),
        ('"examples.wiki.renderer:render"', '"examples.wiki"', 6, "package.module:function"),
        ('{entry_point: {function: "examples.wiki.renderer:render"}, timeout: 5s}', "{timeout: 5s}", 6, "one of"),
        ('entry_point: {function: "examples.wiki.renderer:render"}', "http: {url: gopher}", 6, "http://"),
        ('entry_point: {function: "examples.wiki.renderer:render"}', "grpc: {address: nowhere}", 6, "host:port"),
        ("timeout: 5s", "timeout: 5 parsecs", 6, "parsecs"),
        ("settle_delay: 2s", "settle_delay: 2h", 9, "3600"),
        ("settle_delay: 2s", "max_dependencies: -1", 9, "1,000,000"),
        ("settle_delay: 2s", "retry: {max_attempts: 1000}", 9, "100"),
        ("settle_delay: 2s", "retry: {initial_backoff: 10s, max_backoff: 1s}", 9, "longer than max_backoff"),
        ("settle_delay: 2s", "revision: 3", 9, "given by the engine"),
        ("views:", "revision: 2\nviews:", 1, "given by the engine"),
        ("    source_namespace: wiki\n", "", 4, "without source_namespace"),
        ("name: html", "name: html\n    name: html", 3, "given twice"),
        ("name: html", "name: [html]", 2, "is a list"),
        ("name: html", "name: {html: 1}", 2, "is a mapping"),
        ("name: html", "name: ''", 2, "is no name of a view"),
        ("name: html", "name: &n html\n    lane: *n", 3, "alias"),
        ("views:", "view:", 1, 'did you mean "views"'),
        ("views:", "views: 3\nmore:", 1, "a list is allowed"),
        ("settle_delay: 2s", "settle_delay: [2s]", 9, "is a list"),
        ("settle_delay: 2s", "settle_delay: 2s\n  - [html]", 10, "a mapping is allowed"),
        ("settle_delay: 2s", "max_concurrency: many", 9, "many"),
        ("settle_delay: 2s", "max_concurrency: 1.5", 9, "1.5"),
        ("settle_delay: 2s", "max_concurrency: 99999999999999999999", 9, "99999999999999999999"),
        ("settle_delay: 2s", "lease_time: 0.001s", 9, "0.1 s"),
        ("settle_delay: 2s", "\tsettle_delay: 2s", 9, "not YAML"),
        ("settle_delay: 2s", "settle_delay: 'two", 10, "not YAML"),
        ("purge: {", "purge: {url: x, ", 8, 'did you mean "urls"'),
        ("store: {", "store: {bucket: x, ", 7, "bucket"),
        ("render: {", "render: {http: {url: 'http://h/'}, ", 6, "stands beside"),
        ("settle_delay: 2s", "calls: [{url: nowhere}]", 9, "is no address"),
        ("settle_delay: 2s", 'calls: [{url: "http://h/{page}"}]', 9, "{page}"),
        ("settle_delay: 2s", 'calls: [{url: "http://{title}.h/"}]', 9, "in its host"),
        ("settle_delay: 2s", 'calls: [{url: "http://h/", method: HEAD}]', 9, "GET, POST"),
        ("settle_delay: 2s", 'calls: [{url: "http://h/", headers: {Host: x}}]', 9, "cannot be given"),
        ("settle_delay: 2s", 'calls: [{url: "http://h/", headers: {X: "a\\r\\nb"}}]', 9, "no header may hold"),
        ("settle_delay: 2s", 'calls: [{url: "http://h/", method: GET, body: x}]', 9, "beside the method"),
        ("settle_delay: 2s", 'calls: [{url: "http://h/", body: "{name}"}]', 9, "{version}"),
        ("settle_delay: 2s", 'calls: [{url: "http://h/", timeout: 2h}]', 9, "3600"),
        (
            'entry_point: {function: "examples.wiki.renderer:render"}',
            'http: {url: "http://h/", headers: {"a b": c}}',
            6,
            "cannot be given",
        ),
    ],
)
def test_each_mistake_has_its_place(old, new, line, says):
    views, mistakes = mistakes_in(changed(old, new), Defaults())
    assert not views and mistakes
    assert any(one.line == line and says in str(one) for one in mistakes), [str(one) for one in mistakes]


MANY = """\
views:
  - name: Html
    resource_prefixes: [enwiki/page/]
    render: {http: {url: "ftp://h/"}, timeout: soon}
    store: {namespace: html}
    colour: red
  - nam: other
    resource_prefixes: [w/]
    render: {entry_point: {function: nonsense}}
    store: {namespace: html, record: "{page}"}
  - 7
"""


def test_every_mistake_is_told_those_of_form_beside_those_of_meaning_and_none_that_only_follows():
    _, mistakes = mistakes_in(MANY, Defaults())
    assert [(one.line, one.path) for one in mistakes] == [
        (2, "views[0].name"),
        (4, "views[0].render.http.url"),
        (4, "views[0].render.timeout"),
        (6, "views[0].colour"),
        (7, "views[1].nam"),  # and not that its name is missing
        (9, "views[1].render.entry_point.function"),
        (10, "views[1].store.record"),
        (11, "views[2]"),  # and nothing of what it lacks
    ]


def test_views_that_would_overwrite_each_other():
    twice = GOOD + GOOD.removeprefix("views:\n")
    _, mistakes = mistakes_in(twice, Defaults())
    assert [one.line for one in mistakes] == [10]
    other = GOOD + GOOD.removeprefix("views:\n").replace("name: html", "name: other", 1)
    _, mistakes = mistakes_in(other, Defaults())
    assert [one.path for one in mistakes] == ["views[1].store"]


def test_a_home_is_a_data_centre_that_the_engine_knows():
    at_home = GOOD + "    home: west\n"
    assert not mistakes_in(at_home, Defaults())[1], "whoever checks a file need not know where it will be used"
    assert not mistakes_in(at_home, Defaults(places=("east", "west")))[1]
    _, (mistake,) = mistakes_in(at_home, Defaults(places=("east", "north")))
    assert mistake.line == 10 and '"west" is no data centre' in str(mistake) and "east, north" in str(mistake)
    _, (mistake,) = mistakes_in(at_home, Defaults(places=("",)))
    assert '"west" is no data centre' in str(mistake)


def test_only_what_is_stored_can_be_taken_and_only_the_engine_says_so():
    _, (mistake,) = mistakes_in(
        changed(
            '    store: {namespace: html, record: "{name}"}\n', '    calls: [{url: "http://h/"}]\n    home: west\n'
        ),
        Defaults(),
    )
    assert "no results to take" in str(mistake)
    _, (mistake,) = mistakes_in(
        changed('{entry_point: {function: "examples.wiki.renderer:render"}, timeout: 5s}', "{take: {}}"), Defaults()
    )
    assert mistake.line == 6 and "given by the engine" in str(mistake)


def views_of(*ways):
    """Views a, b, … from source to store."""
    entries = [
        f"  - {{name: {name}, resource_prefixes: [x/{name}/], source_namespace: {source}, "
        f'render: {{entry_point: {{function: "m:f"}}}}, '
        f'store: {{namespace: {store}, record: "{name}/{{resource}}"}}}}\n'
        for name, (source, store) in zip("abcdefgh", ways, strict=False)
    ]
    return mistakes_in("views:\n" + "".join(entries), Defaults())


def test_the_same_place_written_in_two_ways():
    two = GOOD.replace("    source_prefix: enwiki/page/\n", "") + GOOD.removeprefix("views:\n").replace(
        "name: html", "name: other", 1
    ).replace("    source_prefix: enwiki/page/\n", "").replace('"{name}"', '"{resource}"', 1)
    _, mistakes = mistakes_in(two, Defaults())
    assert [one.path for one in mistakes] == ["views[1].store"]


def test_circles_of_views_are_named():
    _, mistakes = views_of(("n1", "n2"), ("n2", "n3"), ("n3", "n1"))
    ((one,),) = [mistakes]
    assert one.line == 4 and one.path == "views[2].store.namespace" and "a → b → c → a" in one.what
    _, mistakes = views_of(("in", "n1"), ("n1", "n2"), ("n2", "n1"), ("x", "y"), ("y", "x"))
    assert [(one.line, "b → c → b" in one.what, "d → e → d" in one.what) for one in mistakes] == [
        (4, True, False),
        (6, False, True),
    ]
    views, mistakes = views_of(("in", "n1"), ("n1", "n2"), ("in", "n2"), ("n2", "out"))
    assert len(views) == 4 and not mistakes, "what flows together is no circle"


def test_many_views_in_a_row_are_no_circle():
    many = {f"v{at}": (f"n{at}", f"n{at + 1}") for at in range(5_000)}
    assert list(circles(many)) == []
    assert [len(one) for one in circles(many | {"last": ("n5000", "n0")})] == [5_001]


def test_noise_is_never_another_error():
    rng = Random(5)
    for _ in range(200):
        at = rng.randrange(len(GOOD))
        text = (
            GOOD[:at]
            + rng.choice(["{", "}", ":", "\t", "- ", "\x00", "é", "&a", "*a", "!!python", ""])
            + GOOD[at + 1 :]
        )
        mistakes_in(text, Defaults())


def test_the_file_is_read_again_when_it_changes_and_kept_when_it_is_wrong(tmp_path):
    async def main():
        disk = MemoryDisk()
        store = MemoryStore(disk)
        catalogue = Catalogue(store, Defaults())
        engine = Engine(store, SystemClock(), Random(1), Settings(), [], 0)
        path = tmp_path / "views.yaml"
        path.write_text(GOOD)
        file = views_file(str(path), catalogue, engine)
        await file.read_first()
        assert catalogue.revision == 1 and engine.shard.views.number("html") == 0
        await file.read_first()
        assert catalogue.revision == 1  # the same text is no new revision
        path.write_text(GOOD.replace("name: html", "name: Html"))
        with pytest.raises(ConfigError):
            await file.read_first()
        assert catalogue.revision == 1
        following = asyncio.create_task(file.follow())
        path.write_text(GOOD.replace("settle_delay: 2s", "settle_delay: 3s"))
        os.utime(path, ns=(1, 1))
        for _ in range(100):
            await asyncio.sleep(0.05)
            if catalogue.revision == 2:
                break
        following.cancel()
        assert engine.shard.views.get("html").settle_s == 3
        again = Catalogue(MemoryStore(disk), Defaults())
        assert (again.revision, again.messages[0].settle_delay.seconds) == (2, 3)

    asyncio.run(main())
