"""What those who store pages and those who serve them must call alike, or a purge misses its page."""

from typing import Final

TAGS_ATTRIBUTE: Final = "surrogate-keys"
"""The attribute of a stored item that holds a page's tags, separated by blanks."""

PATH_SAFE: Final = "/:@!$&'()*+,;="
"""What stays as it is in a path besides letters, digits and "_.-~" (RFC 3986, section 3.3)."""
