"""The protoc plugin that writes type stubs of messages."""

from mypy_protobuf.main import main

if __name__ == "__main__":
    main()
