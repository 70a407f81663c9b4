"""What all tests run under: arithmetic that gives the same bits twice.

Tests that compare trained weights to the last bit start ms-swift more than once. How many threads a matrix product is
cut into, and where its operands lie, may change from one process to the next on some CPUs (seen on a machine that ran
the tests, ~1e-7 of a weight), and so the order of its sum. One thread, and MKL's path that promises the same bits
(MKL_CBWR, "Getting Reproducible Results with oneMKL"), take both away. One thread is also what two runs of pytest on
two cores have room for.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MKL_CBWR": "COMPATIBLE"}
