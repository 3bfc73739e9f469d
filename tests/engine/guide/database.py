"""A database in a volume: the connection is opened in ``enter`` and closed in ``exit``."""

import os
import sqlite3

import lifecycle_magic as modal

FOLDER = os.environ["GUIDE_FOLDER"]

app = modal.App("database")


@app.cls(volumes={FOLDER: modal.Volume.from_path(FOLDER)})
class Orders:
    @modal.enter()
    def connect(self):
        self.connection = sqlite3.connect(f"{FOLDER}/orders.db")
        self.connection.execute("create table if not exists orders (item text)")
        self.connection.execute("create table if not exists log (what text)")
        self.connection.execute("insert into log values ('opened')")

    @modal.method()
    def add(self, item: str) -> int:
        self.connection.execute("insert into orders values (?)", (item,))
        return self.connection.execute("select count(*) from orders").fetchone()[0]

    @modal.exit()
    def close(self):
        self.connection.execute("insert into log values ('closed')")
        self.connection.commit()  # without it, nothing of all this would be in the file
        self.connection.close()
        print("connection closed")


@app.local_entrypoint()
def main():
    orders = Orders()
    print("orders", [orders.add.remote(item) for item in ("tea", "milk", "cups")])
