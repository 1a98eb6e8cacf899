"""Paths that come from elsewhere."""


def is_inside(path: str) -> bool:
    """Whether a relative path with forward slashes is one, and stays in the folder it is put in."""
    return path.isprintable() and all(name not in ("", ".", "..") for name in path.split("/"))
