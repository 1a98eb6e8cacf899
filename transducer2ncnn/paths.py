"""Paths that come from elsewhere."""


def is_inside(path: str) -> bool:
    """Whether a relative path with forward slashes stays in the folder it is put in."""
    return bool(path) and all(name not in ("", ".", "..") for name in path.split("/"))
