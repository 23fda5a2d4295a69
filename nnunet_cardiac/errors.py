"""The one exception that means: the user can mend this."""


class UserError(RuntimeError):
    """Bad input. The message is one sentence that names the file or value and the way out."""


class UntrustedError(UserError):
    """A file that could run code of whoever made it."""
