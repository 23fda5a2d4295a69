"""The one exception that means: the user can mend this. And sentences for what can happen to any command."""

import errno

FINISHED_STAYS = "what is finished stays, run the command again"


class UserError(RuntimeError):
    """Bad input. The message is one sentence that names the file or value and the way out."""


class UntrustedError(UserError):
    """A file that could run code of whoever made it."""


class DamagedError(UserError):
    """A file that was read, and does not hold what it should."""


def sentence(error: BaseException) -> str | None:
    """What a user should know of an error and can do about it; None where only its traceback tells.

    Args:
        error: a ``UserError``, or of the operating system: no space, no memory, a file or a process that is gone
    """
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, which is not imported for this
        return (
            "The GPU has too little memory: end what else runs on it, plan for less (plan_and_preprocess "
            f"-gpu_memory_target), segment with less (predict --memory), or use -device cpu; {FINISHED_STAYS}."
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return (
            "This machine has too little memory: end what else runs on it, or use fewer processes (-np, "
            f"nnUNet_def_n_proc, nnUNet_n_proc_DA); {FINISHED_STAYS}."
        )
    if type(error).__name__ == "BrokenProcessPool" or "background worker" in text.lower():  # the latter is nnU-Net's
        return (
            "A worker process was killed, most likely because memory ran out, or failed as is written above: use fewer "
            f"(-np, nnUNet_def_n_proc, nnUNet_n_proc_DA); {FINISHED_STAYS}."
        )
    if (
        type(error).__name__ == "SafetensorError"
        or "PytorchStreamWriter failed" in text
        or "Error while creating the NDArray" in text  # blosc2's
    ):
        return f"Weights or a preprocessed image cannot be written: make room on the disk; {FINISHED_STAYS}."
    if isinstance(error, OSError) and "requested and" in text:  # NumPy's, of a file that got fewer bytes
        error = OSError(errno.ENOSPC, text)
    if isinstance(error, OSError) and error.errno in WAYS_OUT:
        name = error.filename if isinstance(error.filename, str) else "A file"
        return f"{name} cannot be written or read ({error.strerror}): {WAYS_OUT[error.errno]}; {FINISHED_STAYS}."
    return None


WAYS_OUT = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room on the disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check its permissions, or choose another folder"),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE, errno.EIO), "check whether its folder or disk is still there"),
    errno.ENAMETOOLONG: "choose a shorter name",
}  # fmt: skip
"""Of errors of the operating system."""
