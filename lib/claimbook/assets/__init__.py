"""Models and data: what exists, how it is fetched, verified and converted, and where it lies.

Plumbing: an asset is identified by the hash of its content and the version of its converter, so a change here makes
nothing stale. Whoever changes what a converter yields raises its version in ``data/assets.yaml``.
"""
