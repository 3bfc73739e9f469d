"""`App`: classes and functions that run in containers, without the cell magic.

    app = App()

    @app.cls(cpu=2)
    class Model: ...

    @app.local_entrypoint()
    def main():
        print(Model().predict.remote([1, 2, 3]))

``lifecycle-magic run script.py`` calls the entry point; ``with app.run():`` does it by hand.
Without either, for example in a notebook, the first call starts the containers that it needs. They
run until the process ends.
"""

from lifecycle_magic.app.app import App as App
