"""A real Varnish with its default VCL: hits, PURGE by URL, by surrogate key, soft; kill, pause, a bad VCL."""

import http.client
import http.server
import threading
from collections import Counter

import pytest

from tools.dev.servers.process import ServerError
from tools.dev.servers.varnish import Varnish


class Origin:
    """Answers /NAME with 'NAME COUNT', tagged `page` and `NAME`; counts how often each was asked for."""

    def __init__(self):
        self.asked = Counter()
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                origin.asked[self.path] += 1
                body = f"{self.path} {origin.asked[self.path]}".encode()
                self.send_response(404 if "missing" in self.path else 200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Surrogate-Key", f"page {self.path.strip('/')}")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def origin():
    origin = Origin()
    yield origin
    origin.close()


@pytest.fixture(scope="module")
def cache(origin):
    with Varnish(origin.address) as cache:
        print(f"started in {cache.start_seconds:.3f} s")
        yield cache


def ask(cache, method, path, timeout_s=20, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", cache.port, timeout=timeout_s)
    try:
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-cache"), answer.read().decode(), answer.getheader("x-purged")
    finally:
        connection.close()


def get(cache, path):
    status, hit, body, _ = ask(cache, "GET", path)
    assert status == 200
    return hit, body


def test_a_page_is_kept_until_its_url_is_purged(cache):
    assert get(cache, "/u") == ("MISS", "/u 1")
    assert get(cache, "/u") == ("HIT", "/u 1")
    assert ask(cache, "PURGE", "/u")[0] == 200
    assert get(cache, "/u") == ("MISS", "/u 2")


def test_a_surrogate_key_purges_its_pages_and_no_other(cache):
    for path in ("/a", "/b", "/a"):
        get(cache, path)
    status, _, _, purged = ask(cache, "PURGE", "/", xkey="a nobody")
    assert (status, purged) == (200, "1")
    assert get(cache, "/a") == ("MISS", "/a 2")
    assert get(cache, "/b") == ("HIT", "/b 1")
    assert int(ask(cache, "PURGE", "/", xkey="page")[3]) >= 2
    assert get(cache, "/b") == ("MISS", "/b 2")


def test_a_soft_purge_serves_the_old_page_once_more(cache):
    get(cache, "/s")
    assert ask(cache, "PURGE", "/", xkey_softpurge="s")[3] == "1"
    assert get(cache, "/s")[1] == "/s 1"


def test_an_error_page_is_not_kept(cache, origin):
    assert ask(cache, "GET", "/missing")[0] == 404
    assert ask(cache, "GET", "/missing")[0] == 404
    assert origin.asked["/missing"] == 2


def test_pause_kill_and_restart(cache):
    get(cache, "/p")
    cache.pause()
    with pytest.raises(TimeoutError):
        ask(cache, "GET", "/p", timeout_s=0.5)
    cache.resume()
    assert get(cache, "/p") == ("HIT", "/p 1")
    cache.kill()
    with pytest.raises(OSError):
        ask(cache, "GET", "/p")
    cache.restart()
    assert get(cache, "/p") == ("MISS", "/p 2")  # A cache in memory promises nothing.


def test_a_vcl_of_ones_own(origin):
    with Varnish(origin.address, vcl='vcl 4.1; backend none none; sub vcl_recv { return (synth(418, "Tea")); }') as own:
        assert ask(own, "GET", "/")[0] == 418


def test_a_bad_vcl_is_shown_with_its_mistake(origin):
    nonsense = Varnish(origin.address, vcl="vcl 4.1; sub vcl_recv { set nonsense = 1; }")
    with pytest.raises(ServerError, match="Symbol not found: .nonsense"), nonsense:
        pass


def test_a_bad_origin_is_refused():
    with pytest.raises(ValueError, match="HOST:PORT"):
        Varnish("localhost")
