"""``lifecycle-magic doctor --modal``: what a script written for Modal has to change."""
