"""The method passes the conformance suite by being named."""

from taskbits.testing import MethodSuite


class TestAnswers(MethodSuite):
    method = "answers"
