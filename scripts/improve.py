"""Run improvement rounds from a script.

python scripts/improve.py configs/quickstart.yaml name=mine rounds=1
"""

import sys

from selfimprove import improve

if __name__ == "__main__":
    summary = improve(sys.argv[1], *sys.argv[2:])
    print(summary.table)
