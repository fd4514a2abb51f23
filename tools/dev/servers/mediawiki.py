"""A real MediaWiki for tests: `with MediaWiki(settings="$wgFoo = 1;") as wiki: requests to wiki.url`."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

from tools.dev.servers import locate
from tools.dev.servers.ports import free_port
from tools.dev.servers.process import START_TIMEOUT_S, Process, ServerError
from tools.dev.servers.server import Server

_MODULES = (
    "ctype curl dom fileinfo iconv intl mbstring pdo pdo_sqlite phar posix simplexml sockets sqlite3 tokenizer xml"
    " xmlreader xmlwriter"
)
_TAIL_BYTES = 2000
_SETTINGS = """
$wgCacheDirectory = '{directory}/cache';
$wgJobRunRate = 0;
$wgDebugLogFile = '{directory}/debug.log';
"""


class MediaWiki(Server):
    """One wiki over SQLite, served by PHP's own server with a few workers; restart() comes back on the same data.

    `url` is its base: `/api.php` and `/index.php` are below. `user` with `password` may edit. `database` is the name
    that begins the keys of its caches. `debug_log()` is what MediaWiki wrote of itself.
    """

    name = "mediawiki"
    user = "Editor"
    password = "a-password-for-tests-2718"  # noqa: S105 - of a wiki that lives for one test
    database = "testwiki"

    def __init__(self, settings: str = "", workers: int = 4, timeout_s: float = START_TIMEOUT_S) -> None:
        """`settings` is PHP, appended to what the installer writes into LocalSettings.php."""
        root = locate.repository("mediawiki_server") / "root"
        super().__init__(timeout_s)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self._settings = settings
        self._program = root / "usr/share/mediawiki"
        self._file = self.directory / "LocalSettings.php"
        ini = self.directory / "php.ini"
        lines = [f"extension_dir = {root / 'usr/lib/php/20220829'}", "memory_limit = 512M"]
        lines += [f"extension = {module}" for module in _MODULES.split()]
        lines += ["zend_extension = opcache", "opcache.enable_cli = 1"]
        ini.write_text("\n".join(lines) + "\n")
        self._php = [str(root / "usr/bin/php8.2"), "-c", str(ini)]
        self._environment = locate.library_environment(root) | {
            "PHP_INI_SCAN_DIR": "",  # not the machine's
            "PHP_CLI_SERVER_WORKERS": str(workers),
        }
        serving = self._environment | {"MW_CONFIG_FILE": str(self._file)}
        command = [*self._php, "-S", self.address, "-t", str(self._program)]
        self.processes = [Process("mediawiki", command, self.directory, serving)]

    def prepare(self) -> None:
        """Installs the wiki: its database, its settings, its user. Raises ServerError."""
        for folder in ("db", "cache"):
            (self.directory / folder).mkdir()
        self.maintain(
            *("install.php", "--dbtype", "sqlite", "--dbpath", str(self.directory / "db"), "--dbname", self.database),
            *("--server", self.url, "--scriptpath", "", "--confpath", str(self.directory), "--lang", "en"),
            *("--pass", self.password, "Test wiki", self.user),
            installed=False,
        )
        with self._file.open("a") as file:
            file.write(_SETTINGS.format(directory=self.directory) + self._settings + "\n")

    def maintain(self, script: str, *arguments: str, installed: bool = True) -> str:
        """Runs one of MediaWiki's maintenance scripts; what it printed. Raises ServerError."""
        environment = self._environment | ({"MW_CONFIG_FILE": str(self._file)} if installed else {})
        command = [*self._php, str(self._program / "maintenance" / script), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=self.timeout_s, check=False
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-_TAIL_BYTES:]
            raise ServerError(f"mediawiki's {script} ended with {done.returncode}:\n{said}")
        return done.stdout

    def debug_log(self) -> str:
        """What MediaWiki logged."""
        path = Path(self.directory, "debug.log")
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_ready(self) -> None:
        self.processes[0].wait_ready(self._answers, self.timeout_s, every_s=0.1)

    def _answers(self) -> bool:
        query = f"{self.url}/api.php?action=query&meta=siteinfo&format=json"
        with urllib.request.urlopen(query, timeout=60) as answer:
            return b'"sitename":"Test wiki"' in answer.read()
