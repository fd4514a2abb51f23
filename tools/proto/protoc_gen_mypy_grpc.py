"""The protoc plugin that writes type stubs of services."""

from mypy_protobuf.main import grpc

if __name__ == "__main__":
    grpc()
