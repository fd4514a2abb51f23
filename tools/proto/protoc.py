"""protoc, with gRPC's Python plugin built in, as a Bazel tool.

Its plugins report every file they write; what was said is shown only when protoc fails.
"""

import os
import sys
import tempfile

from grpc_tools import protoc


def main() -> int:
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            code = int(protoc.main(["protoc", *sys.argv[1:]]))
        finally:
            os.dup2(stderr, 2)
        if code:
            said.seek(0)
            sys.stderr.buffer.write(said.read())
    return code


if __name__ == "__main__":
    sys.exit(main())
