"""Prints the settings reference (docs/settings.md), or with --schema the JSON Schema of tss.yaml (docs/tss.schema.json)."""

import argparse
import json
import sys

from tss.settings.schema import document_schema
from tss.settings.writing import reference

if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tss.settings", description="Print the settings reference as Markdown.")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of tss.yaml, for editors, instead")
    made = json.dumps(document_schema(), indent=1) + "\n" if parser.parse_args().schema else reference()
    sys.stdout.write(made)
