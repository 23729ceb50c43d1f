"""Language models: loading, attention seen or replaced, positions, training, texts as tokens.

Measures: a change makes the stored runs stale that use it. Collect such changes and confirm them together
(``claimbook sweeps --confirm``). What one paper proposes belongs into ``papers/``.
"""
