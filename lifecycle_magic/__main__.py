"""``python -m lifecycle_magic`` is ``lifecycle-magic``."""

import sys

from lifecycle_magic.ui.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
