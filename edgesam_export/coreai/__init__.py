"""Core AI without a device: whether its packages are here, reading and executing ``.aimodel`` files."""
