"""Core AI without a device: assets (``.aimodel``) are read in a child process and executed by ``mil/``.

Apple's own interpreter is here too, as a witness: ``child.Interpreter``.
"""
