"""What those who store pages, those who serve them and those who purge them must call alike, or a purge misses its
page."""

from typing import Final

TAGS_ATTRIBUTE: Final = "surrogate-keys"
"""The attribute of a stored item that holds a page's tags, separated by blanks."""

PATH_SAFE: Final = "/:@!$&'()*+,;="
"""What stays as it is in a path besides letters, digits and "_.-~" (RFC 3986, section 3.3)."""

VERSION_HEADER: Final = "X-Wellspring-Version"
"""Of a served page: its version, 32 hexadecimal digits."""

MINIMUM_HEADER: Final = "X-Min-Version"
"""Of a purge: what is at least so new may stay, 32 hexadecimal digits."""

PURGE_TAGS_HEADER: Final = "Xkey"
"""Of a purge of a gateway: tags, separated by blanks."""

VARNISH_PURGE_TAGS_HEADER: Final = "Xkey-Purge"
"""The same of Varnish, as its xkey module's example has it; there Xkey lists the tags of a page."""
