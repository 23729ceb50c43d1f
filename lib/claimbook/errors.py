"""The one error a user is meant to read."""


class ClaimbookError(Exception):
    """A single clear line that names what is wrong and the way out.

    The command line prints it without a traceback and exits with 2.
    """
