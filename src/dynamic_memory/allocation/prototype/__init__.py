# SPDX-License-Identifier: Apache-2.0
"""The world of the prototype that came before `resource.k8s.io`: its types, its allocators, its examples.

Three generations are understood. v0 models a node as pools of capacities (v0.py); v1 counts devices of pools (v1.py);
v2 and its renaming v2.1 have devices with attributes, shared resources and classes of classes (v2.py). loader.py
reads what people wrote for any of them, pods.py finds the claims of a pod in eleven spellings, schedule.py asks the
right allocator for every claim and joins the answers. Pods that use `resource.k8s.io/v1` go to the allocator of this
package's parent.

The room is pure, like its parent: text in, answers out.
"""

__all__: list[str] = []
