# SPDX-License-Identifier: Apache-2.0
"""What happens to a write between decoding and validation: accounts of pods, mutating policies, validating policies.

`policies.Policies` is the hook of the pipeline. Policies are compiled once per version of the object that they stand
in, and found by operation and resource, so a request that no policy is about costs one look-up.
"""

__all__: list[str] = []
