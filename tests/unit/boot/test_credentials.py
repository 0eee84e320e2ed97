"""Which credentials of the object store are lent to other nodes, and which are not."""

import pytest

from mainstay.boot.credentials import KINDS, lasting_in, missing_in

S3, GOOGLE, AZURE = KINDS["s3"], KINDS["gs"], KINDS["az"]
PAIR = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_a_lasting_pair_is_lent_with_the_place_it_is_for() -> None:
    environment = {**PAIR, "AWS_REGION": "eu-central-1", "PATH": "/bin"}
    assert lasting_in(S3, environment) == {**PAIR, "AWS_REGION": "eu-central-1"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"AWS_REGION": "eu-central-1"},
        {"AWS_ACCESS_KEY_ID": "id"},
        {**PAIR, "AWS_SESSION_TOKEN": "ends soon"},
        {**PAIR, "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token"},
    ],
)
def test_roles_and_what_ends_soon_stay_where_they_are(environment: dict[str, str]) -> None:
    assert lasting_in(S3, environment) == {}


@pytest.mark.parametrize("own", [PAIR, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.2"}])
def test_who_has_credentials_uses_them(own: dict[str, str]) -> None:
    assert missing_in(S3, own, {"AWS_ACCESS_KEY_ID": "other", "AWS_REGION": "x"}) == {}


def test_who_has_none_gets_what_is_missing_and_no_more() -> None:
    kept = {**PAIR, "AWS_REGION": "eu-central-1"}
    assert missing_in(S3, {"AWS_REGION": "eu-west-1"}, kept) == PAIR


def test_the_other_clouds() -> None:
    assert lasting_in(GOOGLE, {"GOOGLE_SERVICE_ACCOUNT_KEY": "{}"}) == {"GOOGLE_SERVICE_ACCOUNT_KEY": "{}"}
    assert lasting_in(GOOGLE, {"GOOGLE_APPLICATION_CREDENTIALS": "/file"}) == {}
    account = {"AZURE_STORAGE_ACCOUNT_NAME": "name", "AZURE_STORAGE_ACCOUNT_KEY": "key"}
    assert lasting_in(AZURE, account) == account
