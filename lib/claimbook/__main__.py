"""``python -m claimbook …`` from any folder; nothing is imported from there, as it may hold a random.py."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]

from claimbook.cli import main

main()
