"""A site file: what runs on the platform besides its services' defaults. YAML, checked, every mistake with its place.

views: views.yaml            # what is rendered from what; beside this file
python_path: ["."]           # where renderers are found; relative to this file
executors: 1                 # executor processes, 1..16
routes:                      # readers' paths; the longest prefix decides
  - path_prefix: /pages/
    namespace: pages
    record_prefix: ""
    view: html               # whose reads are reported: `view` of the resource `resource_prefix` + name; without it,
    resource_prefix: ""      # the one view that stores into the namespace under its resources' own names
services:                    # configuration by service, merged into what the platform writes
  storage: {telemetry: {log: {level: info}}}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tools.platform.layout import SERVICES, Layout, Route, fixed_ports

MOST_EXECUTORS: Final = 16
_KEYS = ("views", "python_path", "executors", "routes", "services")
_ROUTE_KEYS = ("path_prefix", "namespace", "record_prefix", "view", "resource_prefix")


class SiteError(Exception):
    """The site file cannot be used; the text names file, key, what is wrong and what is allowed."""


@dataclass(frozen=True)
class Site:
    """A site file, read. `views` is the text of the views file."""

    routes: tuple[Route, ...]
    views: str = ""
    python_path: tuple[str, ...] = ()
    executors: int = 1
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def layout(self, data: Path, port_base: int) -> Layout:
        """The processes that serve this site out of `data`."""
        return Layout(
            data=data,
            ports=fixed_ports(port_base, self.executors),
            routes=self.routes,
            views=self.views,
            python_path=self.python_path,
            executors=self.executors,
            overrides=self.services,
        )


DEFAULT: Final = Site(routes=(Route("/pages/", "pages"),))
"""Readers get the records of the namespace "pages"; no views."""


def read(path: Path) -> Site:
    """Reads a site file and the views file that it names. Raises SiteError."""
    given = _mapping(path)
    folder = path.absolute().parent
    views = ""
    if (named := given.get("views")) is not None:
        views_file = folder / _text(path, "views", named)
        try:
            views = views_file.read_text(encoding="utf-8")
        except OSError as error:
            raise SiteError(f"{path}: views: {views_file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SiteError(f"{path}: views: {views_file} is not UTF-8") from None
    executors = given.get("executors", 1)
    if not isinstance(executors, int) or isinstance(executors, bool) or not 1 <= executors <= MOST_EXECUTORS:
        raise SiteError(f"{path}: executors: is {executors!r}; allowed is 1..{MOST_EXECUTORS}")
    python_path = _list(path, "python_path", given.get("python_path", []))
    return Site(
        routes=_routes(path, given.get("routes", [])) or DEFAULT.routes,
        views=views,
        python_path=tuple(str(folder / _text(path, "python_path", entry)) for entry in python_path),
        executors=executors,
        services=_services(path, given.get("services", {})),
    )


def _mapping(path: Path) -> dict[str, Any]:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SiteError(f"the site file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SiteError(f"the site file {path} is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SiteError(f"{path}:{line}: is not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise SiteError(f"{path}: is not YAML: it holds characters that YAML does not allow") from None
    if not isinstance(given, dict):
        raise SiteError(f"{path}: holds no keys; allowed are {', '.join(_KEYS)}")
    for key in given:
        if key not in _KEYS:
            raise SiteError(f"{path}: {key}: is not known; allowed are {', '.join(_KEYS)}")
    return given


def _routes(path: Path, given: Any) -> tuple[Route, ...]:
    routes = []
    for number, route in enumerate(_list(path, "routes", given)):
        where = f"routes[{number}]"
        if not isinstance(route, dict) or not {"path_prefix", "namespace"} <= route.keys() <= {*_ROUTE_KEYS}:
            optional = ", ".join(_ROUTE_KEYS[2:])
            raise SiteError(f"{path}: {where}: needs path_prefix and namespace, and may have {optional}")
        prefix = _text(path, f"{where}.path_prefix", route["path_prefix"])
        if not prefix.startswith("/"):
            raise SiteError(f'{path}: {where}.path_prefix: is "{prefix}"; allowed is a path that begins with /')
        more = {key: route.get(key, "") for key in _ROUTE_KEYS[2:]}
        for key, value in more.items():
            if not isinstance(value, str):
                raise SiteError(f"{path}: {where}.{key}: is {value!r}; allowed is a text")
        routes.append(Route(prefix, _text(path, f"{where}.namespace", route["namespace"]), **more))
    return tuple(routes)


def _services(path: Path, given: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(given, dict):
        raise SiteError(f"{path}: services: is {given!r}; allowed is configuration by service")
    for name, config in given.items():
        if name not in SERVICES:
            raise SiteError(f"{path}: services.{name}: is no service; allowed are {', '.join(SERVICES)}")
        if not isinstance(config, dict):
            raise SiteError(f"{path}: services.{name}: is {config!r}; allowed is a mapping")
    return given


def _list(path: Path, key: str, given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise SiteError(f"{path}: {key}: is {given!r}; allowed is a list")
    return given


def _text(path: Path, key: str, given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise SiteError(f"{path}: {key}: is {given!r}; allowed is a text that is not empty")
    return given
