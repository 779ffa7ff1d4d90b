"""One module per backend: a file that registers a ``DeviceBackend`` in ``DEVICES`` is all that a new one takes."""
