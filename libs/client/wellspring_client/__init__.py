"""The SDK of Wellspring; see `wellspring_client.connect`."""
