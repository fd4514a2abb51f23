"""From a ServiceClient message to a connection: how one process calls another service."""

from libs.config import wiring
from wellspring.config.v1 import server_pb2
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels, Tls


async def open_channels(config: server_pb2.ServiceClient) -> Channels:
    """Channels to the service's addresses, to be closed by the caller. Async: channels belong to the running loop."""
    tls = client_tls(config.tls) if config.HasField("tls") else None
    return Channels(list(config.addresses), tls=tls, connections=config.connections)


def client_tls(given: server_pb2.ClientTls) -> Tls:
    """How a connection is secured."""
    return Tls(given.ca_file, given.certificate_file or None, given.key_file or None, given.server_name or None)


def caller(channels: Channels, config: server_pb2.ServiceClient) -> Caller:
    """Calls over the channels, each with the configured time limit."""
    return Caller(channels, wiring.seconds(config.timeout), dict)
