# SPDX-License-Identifier: Apache-2.0
"""Generate the committed protobuf and gRPC modules from their .proto files, or check that they are up to date.

    python tools/protos.py          # write
    python tools/protos.py --check  # exit 1 and name what differs

Each .proto below src/dynamic_memory/*/proto/ is compiled as `dynamic_memory/<room>/proto/<name>.proto`, so that the
generated modules import one another by their full names. The compiler and its includes come from grpcio-tools.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"


def compile_to(directory: Path) -> list[Path]:
    """Compile every .proto of the project below a directory; the relative paths of what was made."""
    protos = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.glob("dynamic_memory/*/proto/*.proto"))
    includes = files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"--proto_path={SOURCE}",
        f"--proto_path={includes}",
        f"--python_out={directory}",
        f"--pyi_out={directory}",
        f"--grpc_python_out={directory}",
        *protos,
    ]
    if protoc.main(arguments) != 0:
        sys.exit(1)
    return sorted(path.relative_to(directory) for path in directory.rglob("*_pb2*.py*") if path.is_file())


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if anything would change")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary)
        names = compile_to(made)
        stale = []
        for name in names:
            fresh, committed = (made / name).read_bytes(), SOURCE / name
            if not committed.exists() or committed.read_bytes() != fresh:
                stale.append(name)
                if not check:
                    committed.write_bytes(fresh)
        present = {path.relative_to(SOURCE) for path in SOURCE.glob("dynamic_memory/*/proto/*_pb2*.py*")}
        for name in sorted(present - set(names)):
            stale.append(name)
            if not check:
                (SOURCE / name).unlink()
    for name in stale:
        print(f"{'stale' if check else 'written'}: src/{name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
