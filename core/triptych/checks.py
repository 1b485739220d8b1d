"""Checks of a config's fields, for `PretrainedConfig.checks`; the docstring of each says what it expects."""

from __future__ import annotations

from typing import Any


def positive_int(value: Any) -> bool:
    """a positive integer below 2^31"""
    return type(value) is int and 0 < value < 2**31


def natural(value: Any) -> bool:
    """an integer from 0, below 2^31"""
    return type(value) is int and 0 <= value < 2**31


def optional_positive_int(value: Any) -> bool:
    """a positive integer below 2^31, or None"""
    return value is None or positive_int(value)


def probability(value: Any) -> bool:
    """a number from 0 to 1"""
    return type(value) in (int, float) and 0 <= value <= 1


def positive_number(value: Any) -> bool:
    """a positive number"""
    return type(value) in (int, float) and 0 < value < float("inf")


def part_count(value: Any) -> bool:
    """an integer from 1 to 10,000"""
    return type(value) is int and 0 < value <= 10_000
