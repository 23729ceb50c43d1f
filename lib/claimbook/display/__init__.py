"""What a chapter shows of its ledger and its result: tables, badges, claim cards.

Small HTML pieces that also read as plain text. Nothing here decides: a change moves how a verdict looks, so it makes
every chapter's pages stale, and no stored run.
"""
