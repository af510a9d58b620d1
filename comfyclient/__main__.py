"""``python -m comfyclient``: the command line."""

import sys

from comfyclient.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
