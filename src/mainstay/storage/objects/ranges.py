"""Ranges of an object, told alike by all stores."""


def end_of(size_bytes: int, *, start: int, length: int | None) -> int:
    """Where a read of `length` bytes from `start` ends in an object of `size_bytes`; never before `start`.

    A range is cut at the end of the object, as a slice of bytes is: reading past the end gives b"".
    """
    assert start >= 0, "a range starts inside the object"
    assert length is None or length >= 0, "a length is not negative"
    end = size_bytes if length is None else min(size_bytes, start + length)
    return max(end, start)
