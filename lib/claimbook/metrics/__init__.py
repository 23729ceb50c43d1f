"""Measures of the field, each on plain tensors, with its source.

Measures: a change makes the stored runs stale that use it.
"""
