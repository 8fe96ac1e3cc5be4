# SPDX-License-Identifier: Apache-2.0
"""All benches, one after the other, in one run: `make bench`.

Each prints percentiles, and ratios against a peer that ran beside it. Machines are noisy: only what one run prints can
be compared.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    failed = []
    for path in sorted(HERE.glob("bench_*.py")):
        print(f"\n=== {path.stem.removeprefix('bench_')}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"tests.bench.{path.stem}"], check=False, cwd=HERE.parents[1])
        if done.returncode:
            failed.append(path.stem)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
