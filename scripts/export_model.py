"""Export a run's current policy from a script, checked against the adapter it was merged from.

python scripts/export_model.py runs/quickstart out
"""

import sys

from selfimprove import export

if __name__ == "__main__":
    print(export(sys.argv[1], sys.argv[2]))
