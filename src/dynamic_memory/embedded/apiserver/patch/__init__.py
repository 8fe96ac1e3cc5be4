# SPDX-License-Identifier: Apache-2.0
"""How objects change: JSON patch, merge patch, strategic merge patch, server-side apply, and who owns which field.

Everything here is pure: plain JSON values in, new ones out. Nothing that comes in is changed, but results share what
did not change with it. Merging follows the Schema of a kind alone, so builtin kinds and CRDs go the same way.
"""

__all__: list[str] = []
