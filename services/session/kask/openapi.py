"""The OpenAPI 3 document of the front, as it serves it."""

from typing import Any, Final

from services.session.domain.opaque import MAX_KEY_BYTES
from services.session.kask.problems import TYPE

_TITLES: Final = {
    400: "The request was incorrect or malformed",
    401: "Nothing that the caller shows is known here",
    403: "The caller may not do this",
    404: "Nothing is kept under the key",
    405: "The path has no such method",
    408: "The body did not come in time",
    409: "The key was deleted; it is refused for as long as a value lives",
    413: "Key and value together are too large",
    415: "The body is compressed",
    417: "Something else than 100-continue is expected",
    429: "Too many requests of the caller, or that nobody vouches for",
    500: "The server encountered an error with the request",
    503: "Nothing was done here and now; the same request may be sent again",
    507: "The realm keeps as many values, or bytes, as it may",
}
_ALWAYS: Final = (401, 403, 405, 429, 500, 503)
_OF_A_BODY: Final = (408, 413, 415, 417)


def document(base_path: str) -> dict[str, Any]:
    """The document, for JSON."""
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    write = {
        "requestBody": {"required": True, "content": octets},
        "responses": {"201": {"description": "Kept, for as long as the realm's values live"}}
        | _problems(400, 404, 409, 507, *_OF_A_BODY, *_ALWAYS),
    }
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Wellspring session: Kask-shaped front",
            "version": "1.0.0",
            "description": "Sessions under keys that the caller chooses, one lifetime for all of them.",
        },
        "paths": {
            f"{base_path}{{key}}": {
                "parameters": [_KEY],
                "get": {
                    "summary": "The value under the key",
                    "responses": {"200": {"description": "The value", "content": octets}}
                    | _problems(400, 404, *_ALWAYS),
                },
                "post": {"summary": "Keeps a value under the key", **write},
                "put": {"summary": "The same as POST", **write},
                "delete": {
                    "summary": "Ends the value, and refuses the key to writers for as long as a value lives",
                    "responses": {"204": {"description": "There is no value under the key"}}
                    | _problems(400, 404, *_ALWAYS),
                },
            },
            "/healthz": {"get": {**_HEALTH, "security": []}},
            "/metrics": {"get": _text("Counters of the process, for Prometheus", "text/plain")},
            "/openapi": {"get": _text("This document", "application/json")},
        },
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {
                "credential": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
        "security": [{"credential": []}, {"certificate": []}, {}],
    }


def _problems(*statuses: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        str(status): {"description": _TITLES[status], "content": {TYPE: {"schema": schema}}}
        for status in sorted(set(statuses))
    }


def _text(what: str, kind: str) -> dict[str, Any]:
    answer = {"description": what, "content": {kind: {"schema": {"type": "string"}}}}
    return {"summary": what, "responses": {"200": answer} | _problems(*_ALWAYS)}


_KEY: Final = {
    "name": "key",
    "in": "path",
    "required": True,
    "description": f"UTF-8 text, 1 to {MAX_KEY_BYTES} bytes, no control characters, percent-encoded (a slash too)",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES},
}
_STATES: Final = {
    "description": "What the front stands on, each ok or what is wrong",
    "content": {"application/json": {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}},
}
_HEALTH: Final = {
    "summary": "Whether the front can work: its store takes a write, its keys are there",
    "responses": {"200": _STATES, "503": _STATES} | _problems(405, 500),
}
_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "Names this failure in the server's log; never the path"},
    },
}
