"""What a table refuses."""


class Refused(Exception):
    """A request that is not carried out; ``status`` as RESTBase's own backends have it: 500 for most, 400 for a schema
    that cannot become another."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
