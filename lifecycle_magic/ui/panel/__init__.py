"""The live panel: facts at one moment, and a widget that shows them."""
