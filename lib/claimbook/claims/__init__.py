"""What each chapter claims and how a verdict follows: ledgers, verdicts.

Pure: nothing here measures, runs or writes. A change of a rule here moves verdicts, so it makes every chapter stale and
belongs into the ledgers' changelogs.
"""
