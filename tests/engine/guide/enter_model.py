"""A model in the image, loaded once per container, by a class that asks for eight cores."""

import lifecycle_magic as modal

TRAIN = (
    "import pickle, statistics;"
    "line = statistics.linear_regression([1, 2, 3], [10, 20, 30]);"
    "pickle.dump(tuple(line), open('model.pickle', 'wb'))"
)

app = modal.App("enter-model")
image = modal.Image.debian_slim().run_commands(f'python -c "{TRAIN}"')


@app.cls(image=image, cpu=8)
class Model:
    @modal.enter()
    def load_model(self):
        import pickle

        with open("model.pickle", "rb") as file:
            self.slope, self.intercept = pickle.load(file)

    @modal.method()
    def predict(self, x):
        return self.slope * x + self.intercept


@app.local_entrypoint()
def main(x: int = 123):
    print("predicted", round(Model().predict.remote(x=x)))
