"""``.map``, ``.starmap`` and ``.for_each``: many inputs with bounded read-ahead."""
