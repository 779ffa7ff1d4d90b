"""Core AI assets (``.aimodel``) on any machine that Apple's reader runs on: read in a child process, executed by ``mil/``.

Apple's own interpreter is here too, as a witness: ``child.Interpreter``.
"""
