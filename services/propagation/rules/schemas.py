"""The published schemas of Wikimedia's events that are read and written here, as far as they bind: our own words
for what their documentation requires, by title and major version.

An event names its schema in `$schema`: /<title>/<major>.<minor>.<patch>. Later minor versions add what may be left out.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from services.propagation.rules.shapes import Shape, problem_of

_MOST = (1 << 53) - 1
"""JSON numbers that everybody reads alike (RFC 8259, section 6)."""
_NAME = re.compile(r"/?(?P<title>[a-z0-9_/-]+?)/(?P<version>(?P<major>\d+)\.\d+\.\d+)(?:\.(?:json|yaml))?")

_TEXT: Shape = {"type": "string"}
_SOME: Shape = {"type": "string", "minLength": 1}
_TIME: Shape = {"type": "string", "format": "date-time", "maxLength": 128}
_TRUTH: Shape = {"type": "boolean"}
_COUNT: Shape = {"type": "integer", "minimum": 0, "maximum": _MOST}
_ID: Shape = {"type": "integer", "minimum": 1, "maximum": _MOST}
_NUMBER: Shape = {"type": "integer", "minimum": -_MOST, "maximum": _MOST}
_URI: Shape = {"type": "string", "format": "uri-reference", "maxLength": 8192}


def _object(needed: Mapping[str, Shape], others: Mapping[str, Shape] | None = None) -> Shape:
    return {"type": "object", "required": tuple(needed), "properties": {**needed, **(others or {})}}


_META_MORE = {"uri": _URI, "id": _TEXT, "request_id": _TEXT, "domain": _SOME}
_META = _object({"stream": _SOME, "dt": _TIME}, _META_MORE)
_META_UNDATED = _object({"stream": _SOME}, {"dt": _TIME, **_META_MORE})
_NAMED = {"$schema": _TEXT, "meta": _META}
_NAMED_DATED = {"$schema": _TEXT, "meta": _META_UNDATED, "dt": _TIME}
_PERFORMER = _object({}, {"user_text": _SOME, "user_groups": {"type": "array", "items": _SOME}, "user_is_bot": _TRUTH})
_PAGE_MORE = {"comment": _TEXT, "performer": _PERFORMER}


def _page(named: Mapping[str, Shape], page_id: Shape = _COUNT) -> dict[str, Shape]:
    """What every event about a page of MediaWiki has."""
    title = {"page_title": _SOME, "page_namespace": _NUMBER, "page_is_redirect": _TRUTH}
    return {**named, "database": _SOME, "page_id": page_id, **title, "rev_id": _COUNT}


_REVISION_MORE = {
    **_PAGE_MORE,
    "rev_parent_id": _COUNT,
    "rev_len": _NUMBER,
    "rev_sha1": _TEXT,
    "rev_minor_edit": _TRUTH,
}
_VISIBILITY = _object({"text": _TRUTH, "user": _TRUTH, "comment": _TRUTH})
_LINKS: Shape = {"type": "array", "items": _object({}, {"link": _TEXT, "external": _TRUTH})}
_KINDS = ("create", "undelete", "edit", "move", "delete", "visibility_change")
_PAGE_ENTITY = _object({"page_id": _COUNT, "page_title": _SOME}, {"namespace_id": _COUNT, "is_redirect": _TRUTH})
_REVISION_ENTITY = _object({"rev_id": _ID, "rev_dt": _TIME}, {"rev_parent_id": _COUNT, "rev_size": _COUNT})

SCHEMAS: Final[Mapping[str, Mapping[int, Shape]]] = {
    "resource_change": {
        1: _object(
            _NAMED,
            {
                "tags": {"type": "array", "items": _TEXT, "uniqueItems": True},
                "triggered_by": _TEXT,
                "root_event": _object({"dt": _TIME, "signature": _TEXT}),
            },
        )
    },
    "mediawiki/revision/create": {
        1: _object({**_page(_NAMED, _ID), "rev_timestamp": _TIME}, _REVISION_MORE),
        2: _object({**_page(_NAMED_DATED, _ID), "rev_timestamp": _TIME}, _REVISION_MORE),
    },
    "mediawiki/revision/visibility-change": {
        1: _object(
            {**_page(_NAMED, _ID), "visibility": _VISIBILITY, "prior_state": _object({}, {"visibility": _VISIBILITY})},
            _REVISION_MORE,
        )
    },
    "mediawiki/page/delete": {1: _object(_page(_NAMED), _PAGE_MORE)},
    "mediawiki/page/undelete": {1: _object(_page(_NAMED), {**_PAGE_MORE, "prior_state": _object({"page_id": _ID})})},
    "mediawiki/page/move": {
        1: _object(
            {
                **_page(_NAMED),
                "prior_state": _object({"page_title": _SOME, "page_namespace": _NUMBER, "rev_id": _COUNT}),
            },
            _PAGE_MORE,
        )
    },
    "mediawiki/page/links-change": {
        1: _object(_page(_NAMED), {**_PAGE_MORE, "added_links": _LINKS, "removed_links": _LINKS})
    },
    "mediawiki/page/change": {
        1: _object(
            {
                **_NAMED_DATED,
                "wiki_id": _SOME,
                "page_change_kind": {"type": "string", "enum": _KINDS},
                "changelog_kind": {"type": "string", "enum": ("insert", "update", "delete")},
                "page": _PAGE_ENTITY,
                "revision": _REVISION_ENTITY,
            },
            {"comment": _TEXT, "performer": _object({}, {"user_text": _SOME})},
        )
    },
    "change-prop/retry": {
        1: _object(
            {**_NAMED, "emitter_id": _TEXT, "original_event": {"type": "object"}, "retries_left": _NUMBER},
            {"triggered_by": _TEXT, "reason": _TEXT},
        )
    },
    "error": {
        0: _object({**_NAMED, "emitter_id": _TEXT, "raw_event": _TEXT, "message": _TEXT}, {"triggered_by": _TEXT}),
    },
}


def named(event: Mapping[str, Any]) -> tuple[str, int] | None:
    """Title and major version of the schema that the event says it is of; None when it says none."""
    given = event.get("$schema")
    found = _NAME.fullmatch(given) if isinstance(given, str) else None
    return (found["title"], int(found["major"])) if found is not None else None


def mismatch(event: Mapping[str, Any], wanted: str = "") -> str:
    """How the event differs from the schema that it names; empty when it does not, or the schema is not known here.

    `wanted`: the title of a known schema, which the event must name, in a version that is known.
    """
    found = named(event)
    if wanted and (found is None or found[0] != wanted):
        given = event.get("$schema")
        shown = f'"{given[:128]}"' if isinstance(given, str) else "none"
        return f"names {shown} as its $schema; the topic holds events of {wanted}"
    if found is None or found[0] not in SCHEMAS:
        return ""
    title, major = found
    shape = SCHEMAS[title].get(major)
    if shape is None:
        if not wanted:
            return ""
        known = ", ".join(f"{one}.x" for one in SCHEMAS[title])
        return f"is of version {major}.x of {title}; what is known of it is {known}"
    problem = problem_of(event, shape)
    return f"is no {title}/{major}: {problem}" if problem else ""
