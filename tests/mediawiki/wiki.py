"""A browser's side of a wiki, and the front of the session service behind it, asked past the wiki."""

import http.client
import http.cookiejar
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tools.dev.servers.mediawiki import MediaWiki

TIMEOUT_S = 120
CREDENTIAL = "credential-of-the-wiki-0123456789-abcdef"


def session_settings(front: str, ttl_s: int) -> str:
    """PHP that keeps MediaWiki's sessions at `front` ("http://127.0.0.1:1234/sessions/v1/")."""
    return f"""
$kask = [ 'authorization' => 'Bearer {CREDENTIAL}' ];
$wgObjectCaches['sessions'] = [
    'class' => 'RESTBagOStuff',
    'url' => '{front}',
    'connTimeout' => 30,
    'reqTimeout' => 60,
    'httpParams' => [
        'readHeaders' => $kask,
        'writeHeaders' => $kask + [ 'content-type' => 'application/octet-stream' ],
        'deleteHeaders' => $kask,
        'writeMethod' => 'POST',
    ],
    'serialization_type' => 'JSON',
    'hmac_key' => 'a key of the wiki alone',
    'extendedErrorBodyFields' => [ 'type', 'title', 'detail', 'instance' ],
];
$wgSessionCacheType = 'sessions';
$wgObjectCacheSessionExpiry = {ttl_s};
"""


class Browser:
    """One person's browser."""

    def __init__(self, wiki: MediaWiki) -> None:
        self.wiki = wiki
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> tuple[int, str]:
        """A page's status and text."""
        try:
            with self._opener.open(self.wiki.url + path, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def api(self, **parameters: str) -> dict[str, Any]:
        """The action API's answer, asked by POST."""
        data = urllib.parse.urlencode({"format": "json", "formatversion": "2", **parameters}).encode()
        with self._opener.open(f"{self.wiki.url}/api.php", data, timeout=TIMEOUT_S) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def token(self, kind: str) -> str:
        """A token of the session for writing, or for logging in."""
        found: str = self.api(action="query", meta="tokens", type=kind)["query"]["tokens"][f"{kind}token"]
        return found

    def log_in(self) -> str:
        """What MediaWiki says of a login with the right password; not "kept", so that the session is all there is."""
        answer = self.api(
            action="clientlogin",
            username=self.wiki.user,
            password=self.wiki.password,
            loginreturnurl=self.wiki.url,
            logintoken=self.token("login"),
        )
        return str(answer["clientlogin"]["status"])

    def log_out(self) -> None:
        self.api(action="logout", token=self.token("csrf"))

    def edit(self, title: str, text: str, token: str = "") -> str:
        """What came of an edit that only a logged-in user may make, with a token of before if one is given."""
        answer = self.api(
            action="edit", title=title, text=text, token=self.token("csrf"), assert_user="", **{"assert": "user"}
        )
        return str(answer.get("edit", {}).get("result") or answer["error"]["code"])

    @property
    def user(self) -> str:
        """Who MediaWiki takes the browser for; empty when nobody is logged in."""
        info = self.api(action="query", meta="userinfo")["query"]["userinfo"]
        return "" if info.get("anon") else str(info["name"])

    @property
    def session(self) -> str:
        """The session's id, as the cookie has it; empty without one."""
        return next((c.value or "" for c in self.cookies if c.name.endswith("_session")), "")

    def set_session(self, value: str) -> None:
        """Puts another session's id in the cookie: a stolen or an old one."""
        for cookie in self.cookies:
            if cookie.name.endswith("_session"):
                cookie.value = value


class Front:
    """The service's front, asked past the wiki."""

    def __init__(self, port: int, database: str) -> None:
        self._port = port
        self._database = database

    def ask(self, method: str, session: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body, of a session by its id."""
        key = urllib.parse.quote(f"{self._database}:MWSession:{session}", safe="")
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            connection.request(method, f"/sessions/v1/{key}", body, {"Authorization": f"Bearer {CREDENTIAL}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
