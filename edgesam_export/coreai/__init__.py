"""Core AI assets (``.aimodel``) wherever Apple's reader runs: read in a child process, executed by ``mil/``.

Apple's own interpreter is here too, as a witness: ``child.Interpreter``.
"""
