"""Running chapters and stored runs, comparing, checking and accepting them.

Plumbing: may be changed at no cost, as it carries or refuses data and computes none.
"""
