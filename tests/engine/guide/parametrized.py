"""A class with parameters: equal arguments share a container, other arguments get their own."""

import lifecycle_magic as modal

app = modal.App("parametrized")


@app.cls()
class Greeter:
    language: str = modal.parameter(default="en")
    shout: bool = modal.parameter(default=False)

    @modal.enter()
    def load(self):
        self.word = {"en": "hello", "fr": "bonjour"}[self.language]
        self.greeted = 0

    @modal.method()
    def greet(self, name: str):
        self.greeted += 1
        text = f"{self.word} {name}, number {self.greeted}"
        return text.upper() if self.shout else text


@app.local_entrypoint()
def main():
    print(Greeter().greet.remote("Ada"))
    print(Greeter(language="en").greet.remote("Alan"))
    print(Greeter(language="fr").greet.remote("Marie"))
    print(Greeter(language="fr", shout=True).greet.remote("Henri"))
