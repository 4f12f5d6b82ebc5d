"""Locks on open files, which the operating system lets go of when their holder dies, however it dies."""

import sys

if sys.platform == "win32":
    import msvcrt
    import os

    _FAR = 1 << 40  # Windows forbids others to read a locked range, so the lock sits where no data ever is

    def try_lock(descriptor: int) -> bool:
        """Lock the open file for this process; False when someone else holds it."""
        here = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, here, os.SEEK_SET)
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Lock the open file for this process; False when someone else holds it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
