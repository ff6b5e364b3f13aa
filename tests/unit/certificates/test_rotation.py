"""Decisions that the keeper's tests do not show."""

from datetime import timedelta

import pytest

from tests.unit.certificates.pairs import DAYS, MINUTE, NAMES, NOW, VALIDITY
from wazzup_operator.certificates.content import Content
from wazzup_operator.certificates.issue import dump_bundle, make_authority, make_serving, renewal
from wazzup_operator.certificates.rotation import ServingRequirements, next_due, next_step

AUTHORITY, OLD = make_authority(NOW), make_authority(NOW)
PAIR, OLD_PAIR = (make_serving(each, NAMES, NOW, VALIDITY) for each in (AUTHORITY, OLD))
FORMER = (OLD.certificate,)


def test_a_former_ca_is_trusted_as_long_as_the_pair_that_it_signed_is_served():
    """Even after every such pair should have expired."""
    content = Content(AUTHORITY, OLD_PAIR, FORMER, NOW - MINUTE)
    both = dump_bundle([AUTHORITY.certificate, *FORMER])
    requirements = ServingRequirements(NAMES, VALIDITY)
    assert next_step(content, [both], NOW, requirements, propagated=False) is None


@pytest.mark.parametrize(
    ("content", "due"),
    [
        (Content(), None),
        (Content(AUTHORITY), None),
        (Content(None, PAIR), None),
        (Content(AUTHORITY, PAIR), renewal(PAIR.certificate)),
        (Content(AUTHORITY, PAIR, FORMER, NOW + DAYS), NOW + DAYS),
        (Content(AUTHORITY, PAIR, FORMER, NOW + timedelta(days=80)), renewal(PAIR.certificate)),
        (Content(AUTHORITY, PAIR, FORMER), renewal(PAIR.certificate)),
        (Content(AUTHORITY, PAIR, (), NOW + DAYS), renewal(PAIR.certificate)),
    ],
)
def test_the_next_write_is_due_when_something_must_be_renewed_or_dropped(content, due):
    assert next_due(content) == due
