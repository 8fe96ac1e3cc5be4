# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes API server: storage, watches, admission, patches, discovery, behind HTTP or called in process.

`store` keeps objects and their history, `api` is the pipeline of a request without HTTP, `http` is its edge, `local` a
client within the process. Objects are plain JSON dicts that are never changed once stored.
"""

__all__: list[str] = []
