"""Reads MediaWiki XML exports (schemas 0.3 to 0.11; plain, bzip2 or gzip) as a stream of pages, in bounded memory.

An export comes from outside, so that everything in it is suspect: no DTD and no entity of its own is read (defusedxml),
depth, titles, texts, what lies between pages and the ratio of compression have limits, and whatever is wrong is a
`DumpError` that says what, where and what is allowed. The format: https://www.mediawiki.org/wiki/Help:Export.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.sax import SAXParseException
from xml.sax.handler import feature_namespaces

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser

from examples.wiki import export
from examples.wiki.export import Page

__all__ = ["DumpError", "Limits", "Page", "Summary", "check", "read"]

CHUNK_BYTES = 64 * 1024
RATIO_FREE_BYTES = 16 * 1024 * 1024

SUPPORTED = "a MediaWiki XML export, schema 0.3 to 0.11, in UTF-8, plain (.xml), bzip2 (.bz2) or gzip (.gz)"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an export may hold. Sizes are of decompressed bytes.

    `page_bytes`: the text of one revision (a wiki's own limit is 2 MiB). `gap_bytes`: all else from the end of one page
    to the end of the next. `ratio`: decompressed to compressed, counted after the first 16 MiB (real exports stay below
    50). `total_bytes`: the whole export.
    """

    page_bytes: int = 8 * 1024 * 1024
    gap_bytes: int = 16 * 1024 * 1024
    ratio: int = 1000
    total_bytes: int = 1 << 40


class DumpError(ValueError):
    """The export cannot be read. `str()` says what is wrong, where, and what is allowed.

    `pages`: how many pages were complete before the mistake; `last_title`: the title of the last of them ("" for
    none); `line` (from 1) and `offset_bytes` (decompressed, to within one chunk of 64 KiB): where.
    """

    def __init__(self, what: str, *, path: Path, pages: int, last_title: str, line: int, offset_bytes: int) -> None:
        after = f"after {pages} pages, the last of them {last_title!r}" if pages else "before the first page"
        super().__init__(f"{path}: {what} (line {line}, about byte {offset_bytes}, {after})")
        self.what = what
        self.pages = pages
        self.last_title = last_title
        self.line = line
        self.offset_bytes = offset_bytes


@dataclass(frozen=True, slots=True)
class Summary:
    """An export read to its end: the site's database name ("" in old schemas), the schema, counts."""

    site: str
    schema: str
    pages: int
    text_bytes: int


def read(path: Path, limits: Limits | None = None) -> Iterator[Page]:
    """The pages of an export in its order; of several revisions of a page the last one. Raises DumpError.

    Pages come before the end of the file has been seen: who must not act on half an export calls `check` first.
    """
    return _Reader(path, limits or Limits()).pages()


def check(path: Path, limits: Limits | None = None) -> Summary:
    """Read a whole export and keep nothing. Raises DumpError, where `read` would come to raise it."""
    reader = _Reader(path, limits or Limits())
    pages = text_bytes = 0
    for page in reader.pages():
        pages += 1
        text_bytes += len(page.text.encode())
    return Summary(reader.handler.site, reader.handler.schema, pages, text_bytes)


class _Reader:
    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._offset = 0
        self._pages = 0
        self._last_title = ""
        self.handler = export.Handler(limits.page_bytes, limits.gap_bytes)
        self._parser = DefusedExpatParser(forbid_dtd=True)
        self._parser.setFeature(feature_namespaces, True)
        self._parser.setContentHandler(self.handler)

    def pages(self) -> Iterator[Page]:
        try:
            with self._path.open("rb") as raw:
                yield from self._from_stream(raw, self._decompressed(raw))
        except OSError as error:
            raise self._error(f"the file cannot be read: {error.strerror}") from None

    def _from_stream(self, raw: IO[bytes], stream: IO[bytes] | gzip.GzipFile) -> Iterator[Page]:
        silent, seen = 0, -1
        while chunk := self._chunk(stream):
            if not self._offset:
                self._check_start(chunk)
            fault = self._parse(chunk)
            yield from self._ready()
            if fault:
                raise self._error(fault)
            self._offset += len(chunk)
            silent = silent + len(chunk) if self.handler.progress == seen else 0
            seen = self.handler.progress
            self._check_sizes(silent, raw.tell())
        if not self._offset:
            raise self._error(f"the file is empty; needed is {SUPPORTED}")
        if fault := self._parse(None):
            raise self._error(fault)

    def _chunk(self, stream: IO[bytes] | gzip.GzipFile) -> bytes:
        try:
            return stream.read(CHUNK_BYTES)
        except EOFError:
            raise self._error("the compressed file ends early: it was cut off") from None
        except (OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise self._error("the compressed data is damaged") from None

    def _parse(self, data: bytes | None) -> str:
        """Feed the parser, or with None tell it that this was all. Returns what is wrong, "" when nothing is."""
        try:
            if data is None:
                self._parser.close()
            else:
                self._parser.feed(data)
        except export.Refused as refused:
            return str(refused)
        except DefusedXmlException:
            return "the export declares a document type or an entity; neither is allowed"
        except SAXParseException as error:
            return self._fault(error, at_end=data is None)
        return ""

    def _fault(self, error: SAXParseException, *, at_end: bool) -> str:
        reason = str(error.getMessage())
        if at_end or reason in ("no element found", "unclosed token"):
            return "the XML ends early: the export was cut off"
        if "invalid token" in reason:
            return "the XML is not well-formed, or not UTF-8 (invalid token)"
        return f"the XML is not well-formed ({reason})"

    def _error(self, what: str) -> DumpError:
        return DumpError(
            what,
            path=self._path,
            pages=self._pages,
            last_title=self._last_title,
            line=max(self._parser.getLineNumber() or 1, 1),
            offset_bytes=self._offset,
        )

    def _ready(self) -> Iterator[Page]:
        for page in self.handler.take():
            self._pages += 1
            self._last_title = page.title
            yield page

    def _decompressed(self, raw: IO[bytes]) -> IO[bytes] | gzip.GzipFile:
        start = raw.read(6)
        raw.seek(0)
        if start.startswith(b"BZh"):
            return bz2.BZ2File(raw)
        if start.startswith(b"\x1f\x8b"):
            return gzip.GzipFile(fileobj=raw)
        for magic, name in (
            (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
            (b"\xfd7zXZ", "xz"),
            (b"PK\x03\x04", "a zip archive"),
        ):
            if start.startswith(magic):
                raise self._error(f"the file is {name}; needed is {SUPPORTED}")
        return raw

    def _check_start(self, chunk: bytes) -> None:
        """Refuse what expat would read in another encoding, or not name well."""
        head = chunk[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
        if chunk.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in chunk[:64]:
            raise self._error(f"the text is not UTF-8 but UTF-16 or binary; needed is {SUPPORTED}")
        if not head.startswith(b"<"):
            raise self._error(f"the file is not XML; needed is {SUPPORTED}")
        if head.startswith(b"<?xml"):
            declaration = head.partition(b"?>")[0].replace(b"'", b'"')
            _, found, rest = declaration.partition(b'encoding="')
            encoding = rest.partition(b'"')[0].decode("ascii", "replace")
            if found and encoding.lower() not in ("utf-8", "utf8", "us-ascii"):
                raise self._error(f"the text is in {encoding[:40]!r}; needed is {SUPPORTED}")

    def _check_sizes(self, silent: int, compressed: int) -> None:
        limits = self._limits
        if self._offset > limits.total_bytes:
            raise self._error(f"the export has more than {limits.total_bytes} bytes")
        if silent > limits.gap_bytes:
            raise self._error(f"more than {limits.gap_bytes} bytes that belong to no page's text")
        if self._offset > RATIO_FREE_BYTES and self._offset > limits.ratio * max(compressed, 1):
            raise self._error(f"the data grows more than {limits.ratio} times when decompressed")
