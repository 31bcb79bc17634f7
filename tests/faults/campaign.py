"""The long version of the fault tests: hundreds of kills, longer locks; prints the table.

python tests/faults/campaign.py             all of them, within the hour
python tests/faults/campaign.py -k killed   some of them; takes what pytest takes
"""

import os
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    os.environ["BENCH_CAMPAIGN"] = "long"
    sys.exit(pytest.main([str(Path(__file__).parent), "-q", *sys.argv[1:]]))
