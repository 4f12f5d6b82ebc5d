"""Locks of keys: so that of several runs that would make the same result, one makes it and the others use it."""
