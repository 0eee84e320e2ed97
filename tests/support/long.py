"""Tests that take long and show again what shorter ones show: part of `make long`, not of `make test`."""

import os

import pytest

only_long = pytest.mark.skipif(not os.environ.get("MAINSTAY_LONG"), reason="part of `make long`")
