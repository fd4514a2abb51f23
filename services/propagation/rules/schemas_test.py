"""Events against the schemas that they name: what is wrong is told by its path, and what is written here is right."""

import copy

import pytest

from services.propagation.rules.events import error_event, published_event, retry_event
from services.propagation.rules.schemas import SCHEMAS, mismatch
from services.propagation.rules.testing.site import URI, case, event

META = {
    "stream": "s",
    "dt": "2026-01-01T00:00:00Z",
    "uri": "https://en.wikipedia.org/wiki/Ä",
    "id": "1",
    "request_id": "2",
    "domain": "en.wikipedia.org",
}
PAGE = {
    "database": "enwiki",
    "page_id": 7,
    "page_title": "Ä",
    "page_namespace": -1,
    "page_is_redirect": False,
    "rev_id": 9,
}
SEEN = {"text": True, "user": True, "comment": False}
DT = {"dt": META["dt"]}
GOOD = {
    "/resource_change/1.0.0": {"tags": ["purge"], "root_event": {"dt": "2026-01-01T00:00:00+01:00", "signature": "x"}},
    "/mediawiki/revision/create/1.2.0": {**PAGE, "rev_timestamp": "2026-01-01T00:00:00.123Z", "rev_len": -1},
    "/mediawiki/revision/create/2.0.0": {**PAGE, **DT, "rev_timestamp": "2026-01-01T00:00:00Z"},
    "/mediawiki/revision/visibility-change/1.0.0": {**PAGE, "visibility": SEEN, "prior_state": {"visibility": SEEN}},
    "/mediawiki/page/delete/1.0.0": {**PAGE, "page_id": 0, "performer": {"user_text": "A", "user_groups": ["*"]}},
    "/mediawiki/page/undelete/1.0.0": {**PAGE, "prior_state": {"page_id": 3}},
    "/mediawiki/page/move/1.0.0": {**PAGE, "prior_state": {"page_title": "B", "page_namespace": 0, "rev_id": 1}},
    "/mediawiki/page/links-change/1.0.0": {**PAGE, "added_links": [{"link": "/x", "external": False}]},
    "/mediawiki/page/change/1.2.0": {
        **DT,
        "wiki_id": "enwiki",
        "page_change_kind": "edit",
        "changelog_kind": "update",
        "page": {"page_id": 1, "page_title": "A", "namespace_id": 0},
        "revision": {"rev_id": 12, "rev_dt": META["dt"]},
    },
    "/change-prop/retry/1.0.0": {"emitter_id": "cp", "original_event": {}, "retries_left": 0},
    "/error/0.0.3": {"emitter_id": "cp", "raw_event": "", "message": "m"},
}


def good(schema, **changed):
    return {"$schema": schema, "meta": META, "not_known": {"to": "us"}, **copy.deepcopy(GOOD[schema]), **changed}


def members(shape, path=()):
    """The paths of all that is required."""
    for name in shape.get("required", ()):
        yield (*path, name)
        yield from members(shape["properties"][name], (*path, name))


def test_there_is_an_event_of_each_schema():
    assert {(key.strip("/").rpartition("/")[0], int(key.rpartition("/")[2][0])) for key in GOOD} == {
        (title, major) for title, versions in SCHEMAS.items() for major in versions
    }


@pytest.mark.parametrize("schema", GOOD)
def test_good_events_are_good_and_whatever_they_lack_is_named(schema):
    assert mismatch(good(schema)) == ""
    title, _, version = schema.strip("/").rpartition("/")
    assert mismatch(good(schema), title) == ""
    for path in members(SCHEMAS[title][int(version[0])]):
        if path == ("$schema",):
            continue
        broken = copy.deepcopy(good(schema))
        place = broken
        for name in path[:-1]:
            place = place[name]
        del place[path[-1]]
        assert mismatch(broken).endswith(f": {'.'.join(path)} is missing"), path
        place[path[-1]] = None
        assert f": {'.'.join(path)} is null; " in mismatch(broken), path


@pytest.mark.parametrize(
    ("schema", "changed", "says"),
    [
        ("/mediawiki/page/delete/1.0.0", {"rev_id": "9"}, 'rev_id is "9"; integer is expected'),
        ("/mediawiki/page/delete/1.0.0", {"rev_id": True}, "rev_id is true"),
        ("/mediawiki/page/delete/1.0.0", {"rev_id": 9.5}, "rev_id is 9.5"),
        ("/mediawiki/page/delete/1.0.0", {"rev_id": -1}, "rev_id is -1; 0 to"),
        ("/mediawiki/page/delete/1.0.0", {"rev_id": 1 << 60}, "expected"),
        ("/mediawiki/page/delete/1.0.0", {"page_title": ""}, "page_title has 0 characters"),
        ("/mediawiki/page/delete/1.0.0", {"page_is_redirect": 0}, "page_is_redirect is 0"),
        ("/mediawiki/page/delete/1.0.0", {"meta": []}, "meta is a list; object is expected"),
        ("/mediawiki/page/delete/1.0.0", {"meta": META | {"dt": "yesterday"}}, "meta.dt is"),
        ("/mediawiki/page/delete/1.0.0", {"meta": META | {"dt": "2026-01-01"}}, "with its zone"),
        ("/mediawiki/page/delete/1.0.0", {"meta": META | {"dt": "2026-01-01T00:00:00"}}, "with its zone"),
        ("/mediawiki/page/delete/1.0.0", {"meta": META | {"uri": "a b"}}, "meta.uri is"),
        ("/mediawiki/page/delete/1.0.0", {"meta": META | {"uri": 9000 * "x"}}, "0 to 8,192 are expected"),
        ("/mediawiki/page/change/1.2.0", {"page_change_kind": "burn"}, "page_change_kind is"),
        ("/mediawiki/page/links-change/1.0.0", {"added_links": [{}, {"link": 1}]}, "added_links[1].link is 1"),
        ("/resource_change/1.0.0", {"tags": ["a", "a"]}, "tags has a member twice"),
    ],
)
def test_what_is_wrong_is_named(schema, changed, says):
    found = mismatch(good(schema, **changed))
    assert says in found and found.startswith(f"is no {schema.strip('/').rpartition('/')[0]}/")


@pytest.mark.parametrize(
    "schema", [None, 5, "", "/x/1.0.0", "/resource_change/9.0.0", "https://x/resource_change/1.0.0"]
)
def test_what_is_not_known_is_not_judged_but_where_a_schema_is_expected(schema):
    given = {"$schema": schema}
    assert mismatch(given) == ""
    assert "resource_change" in mismatch(given, "resource_change")


def test_what_is_written_here_is_of_the_schema_that_it_names():
    plain = event(message="x")
    told = [
        retry_event("cp", "t", plain, "chain", 500, 2, 1_767_225_600_000_000_000),
        error_event("cp", b"\xff", "is no JSON", 1_767_225_600_000_000_000),
        published_event({"$schema": "/resource_change/1.0.0", "meta": {"stream": "t", "uri": URI}}, plain, "", "o", 5),
    ]
    assert [
        mismatch(one, title) for one, title in zip(told, ("change-prop/retry", "error", "resource_change"), strict=True)
    ] == [
        "",
        "",
        "",
    ]


@case
async def test_an_event_that_a_rule_would_publish_wrongly_is_a_dead_letter(site):
    body = {"$schema": "/resource_change/1.0.0", "meta": {"stream": "out", "uri": URI}, "tags": "{{message.tags}}"}
    rule = {"topic": "simple_test_rule", "exec": {"uri": "/sys/queue/events", "body": body}}
    await site.put({"r": rule})
    await site.topics.put("simple_test_rule", event(tags=["a"]))
    await site.topics.put("simple_test_rule", event(tags="a", uri="u/2"))
    await site.until(site.letters)
    await site.idle()
    (letter,) = site.letters()
    assert letter.reason == "SCHEMA_MISMATCH" and 'tags is "a"; array is expected' in letter.detail
    assert len(site.topics.published) == 1
