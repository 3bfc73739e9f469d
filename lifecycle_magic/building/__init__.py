"""From a class to the image that its containers run in: the recipe, then a layer per build hook."""
