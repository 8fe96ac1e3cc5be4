# SPDX-License-Identifier: Apache-2.0
"""`python -m dynamic_memory`: the same as the command `dynamic-memory`."""

import sys

from dynamic_memory.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
