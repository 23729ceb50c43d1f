"""The one error a user is meant to read, and the exit codes of the command line."""

AGREES, MOVED, BAD_INPUT, FAILED, RED, FAULT = range(6)  # RED: a check; FAULT: Claimbook itself
INTERRUPTED, NO_READER = 130, 141  # as shells have them


class ClaimbookError(Exception):
    """A single clear line that names what is wrong and the way out.

    The command line prints it without a traceback and exits with 2.
    """
