"""Claimbook: nine papers rerun, claim by claim, with verdicts that code derives."""

__version__ = "0.1.0"
