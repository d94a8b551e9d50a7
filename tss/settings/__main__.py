"""`python -m tss.settings > docs/settings.md`: the settings reference."""

import sys

from tss.settings.writing import reference

if __name__ == "__main__":
    sys.stdout.write(reference())
