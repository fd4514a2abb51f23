"""The front: Kask's shape, keys and bodies good and bad, and the document of what is served."""

import json

import pytest
from prometheus_client import generate_latest

from services.session.domain.opaque import MAX_KEY_BYTES
from services.session.kask.rig import BASE, problem, served


def test_values_come_and_go_as_with_kask():
    async def test(call):
        body = problem(await call.key("GET", "k"), 404)
        assert body["type"] == "https://www.mediawiki.org/wiki/Kask/errors/not_found" and body["title"] == "Not found"
        status, text, headers = await call.key("POST", "k", b"sample value")
        assert (status, text, headers["Content-Type"]) == (201, b"", "application/octet-stream")
        status, text, headers = await call.key("GET", "k")
        assert (status, text, headers["Content-Type"]) == (200, b"sample value", "application/octet-stream")
        assert headers["Server"] == "wellspring-session" and headers["Cache-Control"] == "no-store"
        assert (await call.key("PUT", "k", b"\0\xff" * 50))[0] == 201
        assert (await call.key("GET", "k"))[1] == b"\0\xff" * 50
        assert (await call.key("DELETE", "k"))[:2] == (204, b"")
        assert (await call.key("DELETE", "k"))[:2] == (204, b"")
        problem(await call.key("GET", "k"), 404)
        body = problem(await call.key("POST", "k", b"late"), 409)
        assert body["type"] == "about:blank" and "new key" in body["detail"]
        problem(await call.key("GET", "k"), 404)

    served(test)


@pytest.mark.parametrize(
    "key",
    ["wiki:MWSession:0123456789abcdef", "a/b", "..", ".", "a b+c", "ключ", "%", "%2F", "a?b#c", "'\"<>\\", "k" * 1024],
)
def test_every_key_that_rawurlencode_makes_is_read_back_exactly(key):
    async def test(call):
        assert (await call.key("POST", key, b"v"))[0] == 201
        assert (await call.key("GET", key))[:2] == (200, b"v")
        assert (await call.store.opaque.count("wiki")) == 1
        # Another spelling of the same bytes is the same key.
        spelled = "".join(f"%{byte:02x}" for byte in key.encode())
        assert (await call("GET", BASE + spelled))[:2] == (200, b"v")

    served(test)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (BASE, 404),
        (BASE + "a/b", 404),
        (BASE + "a/", 404),
        ("/sessions/v2/a", 404),
        ("/", 404),
        ("//sessions/v1/a", 404),
        (BASE + "a?x=1", 400),
        (BASE + "%00", 400),
        (BASE + "a%0Ab", 400),
        (BASE + "%7F", 400),
        (BASE + "%C2%85", 400),
        (BASE + "%FF", 400),
        (BASE + "%zz", 400),
        (BASE + "a%2", 400),
        (BASE + "k" * (MAX_KEY_BYTES + 1), 400),
        (BASE + "%6b" * (MAX_KEY_BYTES + 1), 400),
    ],
)
def test_bad_paths(path, status):
    async def test(call):
        for method in ("GET", "POST", "DELETE"):
            problem(await call(method, path, b"v" if method == "POST" else None), status)
        assert await call.store.opaque.count("wiki") == 0

    served(test)


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "OPTIONS", "TRACE", "PURGE"])
def test_other_methods_are_refused(method):
    async def test(call):
        status, _, headers = await call.key(method, "k")
        assert status == 405 and headers["Allow"] == "GET, POST, PUT, DELETE"
        status, _, headers = await call(method, "/healthz")
        assert status == 405 and headers["Allow"] == "GET"
        assert method.encode() not in generate_latest(call.registry)

    served(test)


def test_bodies():
    async def test(call):
        problem(await call.key("POST", "k"), 400)
        problem(await call.key("POST", "k", b""), 400)
        most = 100_000 - 1
        assert (await call.key("POST", "k", b"v" * most))[0] == 201
        problem(await call.key("POST", "k", b"v" * (most + 1)), 413)
        problem(await call.key("POST", "k", b"v" * 10_000_000), 413)
        problem(await call.key("POST", "k", b"v", headers={"Content-Encoding": "gzip"}), 415)

        async def chunks(count):
            for _ in range(count):
                yield b"w" * 1000

        assert (await call.key("POST", "k", chunks(99)))[0] == 201
        assert (await call.key("GET", "k"))[1] == b"w" * 99_000
        problem(await call.key("POST", "k", chunks(101)), 413)
        assert (await call.key("GET", "k"))[1] == b"w" * 99_000
        # Told to go on, as curl asks for large bodies; not told when it is refused anyway.
        assert (await call.key("POST", "k", b"x" * 5000, expect100=True))[0] == 201
        head = f"POST {BASE}k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
        assert (await call.say(f"{head}200000\r\n\r\n".encode())).startswith(b"HTTP/1.1 413 ")
        assert (await call.say(f"{head}2\r\n\r\n".replace("100-continue", "rain").encode())).startswith(b"HTTP/1.1 417")
        assert (await call.key("GET", "k"))[1] == b"x" * 5000

    served(test)


def test_a_realm_that_is_full_says_so_and_what_is_there_stays_writable():
    async def test(call):
        assert (await call.key("POST", "k", b"v"))[0] == 201
        body = problem(await call.key("POST", "another", b"v"), 507)
        assert "another" not in json.dumps(body) and (await call.key("GET", "another"))[0] == 404
        assert (await call.key("PUT", "k", b"w"))[0] == 201
        assert (await call.key("DELETE", "k"))[0] == 204
        assert (await call.key("POST", "another", b"v"))[0] == 201

    served(test, policy={"max_values": 1})


def test_the_document_is_what_is_served():
    async def test(call):
        status, text, headers = await call("GET", "/openapi")
        assert status == 200 and headers["Content-Type"] == "application/json"
        document = json.loads(text)
        methods = {"get", "post", "put", "delete", "head", "patch", "options", "trace"}
        described = {path: {m.upper() for m in item if m in methods} for path, item in document["paths"].items()}
        assert described == call.front.routes
        # What it says of statuses and types, against what happens.
        keys = document["paths"][BASE + "{key}"]
        for method, key, body, status in (
            ("get", "none", None, 404),
            ("post", "k", b"v", 201),
            ("put", "k", b"v", 201),
            ("get", "k", None, 200),
            ("post", "k", b"", 400),
            ("post", "k", b"v" * 200_000, 413),
            ("delete", "k", None, 204),
            ("post", "k", b"v", 409),
            ("get", "%00", None, 400),
        ):
            answer = await call(method.upper(), BASE + key, body)
            assert answer[0] == status
            content = keys[method]["responses"][str(status)].get("content", {})
            if content:
                assert answer[2]["Content-Type"] in content
        for path in ("/healthz", "/metrics"):
            assert "200" in document["paths"][path]["get"]["responses"]

        def references(node):
            if isinstance(node, dict):
                if "$ref" in node:
                    yield node["$ref"]
                for value in node.values():
                    yield from references(value)
            elif isinstance(node, list):
                for value in node:
                    yield from references(value)

        assert set(references(document)) == {"#/components/schemas/Problem"}
        shown = problem(await call.key("GET", "none"), 404)
        assert set(shown) == set(document["components"]["schemas"]["Problem"]["properties"])

    served(test)
