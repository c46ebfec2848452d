"""python -m dyme."""

import sys

from dyme.cli.main import main

sys.exit(main())
