"""One package per chapter: what is measured, on what, and which of it is stored.

A change makes the stored runs of the one module that it touches stale, and the chapter.
"""
