"""The list of sites and how one gets on it, in every kind of database."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mainstay.cluster.joining import (
    Bundle,
    MadeToken,
    NotAToken,
    TokenRefused,
    make_token,
    parse_token,
    redeem,
    unseal,
)
from mainstay.cluster.keyring import KeyFile, KeyRing, new_key, write_keys
from mainstay.cluster.secrets import Secrets, found
from mainstay.cluster.sites import registry
from mainstay.cluster.sites.admission import admit, crl_pem, enlist, issued_in, renewed, said_by, site_asked
from mainstay.cluster.sites.identity import SiteIdentity, server_name_of, site_id_in
from mainstay.cluster.sites.passes import Passes, SiteRefused
from mainstay.cluster.sites.registry import (
    NameTaken,
    NoSuchSite,
    NotASite,
    Site,
    checked,
    entitled,
    site_by,
    sites,
)
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage.database import Database

HOUR_MS = 3_600_000


class Primary:
    """Lets sites in."""

    def __init__(self, database: Database, data: Path) -> None:
        data.mkdir()
        self.database = database
        keyring = KeyRing([new_key()])
        found(database, keyring, now_ms=1)
        write_keys(data, keyring)
        self.secrets = Secrets(database, KeyFile(data), SYSTEM)
        self.bundle = Bundle(new_ulid(), keyring, {"http": "x"}, {"primary_name": "berlin"})

    def token(self, kind: str = "replica") -> MadeToken:
        return make_token(self.database, self.secrets, by="ada", ttl_ms=HOUR_MS, kind=kind)  # type: ignore[arg-type]

    def admit(self, site: Site, made: MadeToken) -> Bundle:
        token = parse_token(made.text.reveal(), "replica")
        sealed = admit(
            self.database,
            self.secrets,
            self.bundle,
            site,
            token_id=token.id,
            proof=token.proof,
            at="192.0.2.1",
            clock=SYSTEM,
        )
        return unseal(token, sealed)


@pytest.fixture
def primary(database: Database, tmp_path: Path) -> Primary:
    return Primary(database, tmp_path / "berlin")


def paris(**facts: object) -> Site:
    told = Site(id=new_ulid(), name="paris", sites_address="192.0.2.1:8443", url="https://paris.example.org")
    return replace(told, **facts)  # type: ignore[arg-type]


def test_a_site_is_let_in_once_with_a_certificate_of_its_own(primary: Primary, database: Database) -> None:
    site, made = paris(patterns=("group/**",)), primary.token()
    bundle = primary.admit(site_asked(json.loads(json.dumps(said_by(site)))), made)
    assert bundle.keyring.keys == primary.bundle.keyring.keys
    assert (bundle.site["id"], bundle.site["primary_name"]) == (site.id, "berlin")
    listed = site_by(database, "paris")
    assert replace(listed, added_ms=0) == site
    assert listed.added_ms > 0
    certificate = x509.load_pem_x509_certificate(bundle.site["certificate"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert names.get_values_for_type(x509.DNSName) == [server_name_of(site.id)]
    assert site_id_in(server_name_of(site.id)) == site.id
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert Passes(database).holder(site.id, bundle.site["serial"]) == listed
    with pytest.raises(TokenRefused, match="replica token"):
        primary.admit(site, made)


def test_a_token_lets_in_only_what_it_was_made_for(primary: Primary, database: Database) -> None:
    for_node, for_site = primary.token("node"), primary.token()
    with pytest.raises(NotAToken, match="mainstay join"):
        parse_token(for_node.text.reveal(), "replica")
    with pytest.raises(NotAToken, match="replica add"):
        parse_token(for_site.text.reveal())
    as_node, as_site = parse_token(for_node.text.reveal()), parse_token(for_site.text.reveal(), "replica")
    with pytest.raises(TokenRefused):
        admit(
            database,
            primary.secrets,
            primary.bundle,
            paris(),
            token_id=as_node.id,
            proof=as_node.proof,
            at="",
            clock=SYSTEM,
        )
    with pytest.raises(TokenRefused):
        redeem(database, primary.secrets, primary.bundle, token_id=as_site.id, proof=as_site.proof, at="")
    assert sites(database) == []
    assert redeem(
        database, primary.secrets, primary.bundle, token_id=as_node.id, proof=as_node.proof, at=""
    ), "neither was used up by it"
    primary.admit(paris(), for_site)


def test_a_name_is_one_sites_and_does_not_cost_a_token(primary: Primary, database: Database) -> None:
    first, made = paris(), primary.token()
    primary.admit(first, primary.token())
    with pytest.raises(NameTaken, match="remove paris"):
        primary.admit(paris(), made)
    with pytest.raises(NameTaken, match="'paris'"):
        primary.admit(replace(first, name="rome"), made)
    primary.admit(paris(name="rome"), made)
    assert [site.name for site in sites(database)] == ["paris", "rome"]


def test_joining_again_repairs_and_forgets_nothing(primary: Primary, database: Database) -> None:
    site = paris()
    before = primary.admit(site, primary.token())
    registry.note_acknowledged(database, site.id, feed="f", position=7, at_ms=5)
    after = primary.admit(replace(site, sites_address="192.0.2.9:1"), primary.token())
    listed = site_by(database, site.id)
    assert (listed.sites_address, listed.feed, listed.position) == ("192.0.2.9:1", "f", 7)
    for bundle in (before, after):
        assert Passes(database).holder(site.id, bundle.site["serial"])


@pytest.mark.parametrize(
    ("facts", "because"),
    [
        ({"name": "a b"}, "letters"),
        ({"name": "x" * 64}, "letters"),
        ({"id": "me"}, "ULID"),
        ({"kind": "node"}, "replica or a cache"),
        ({"mode": "fast"}, "sync or async"),
        ({"mode": "sync", "delay_s": 5}, "cannot be sync"),
        ({"mode": "sync", "kind": "cache"}, "cannot be sync"),
        ({"delay_s": -1}, "delayed"),
        ({"patterns": ("a b",)}, "patterns"),
        ({"patterns": ("a",) * 101}, "patterns"),
        ({"sites_address": "nowhere"}, "HOST:PORT"),
        ({"url": "javascript:alert(1)"}, "URL"),
    ],
)
def test_what_cannot_be_is_refused(facts: dict[str, object], because: str) -> None:
    with pytest.raises(NotASite, match=because):
        checked(paris(**facts))
    with pytest.raises(NotASite, match=because):
        site_asked({**said_by(paris()), **{name: _plain(value) for name, value in facts.items()}})


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("said", [None, [], "paris", {}, {"id": 1, "name": "x"}, {"id": "x", "delay_s": "1"}])
def test_another_description_is_none(said: object) -> None:
    with pytest.raises(NotASite):
        site_asked(said)


def test_who_was_removed_is_refused_and_may_come_back_by_a_token(
    primary: Primary, database: Database
) -> None:
    site = paris()
    serial = primary.admit(site, primary.token()).site["serial"]
    passes = Passes(database, fresh_s=0)
    assert passes.holder(site.id, serial)
    registry.remove(database, "paris")
    with pytest.raises(SiteRefused, match="removed"):
        passes.holder(site.id, serial)
    with pytest.raises(NoSuchSite):
        registry.remove(database, "paris")
    primary.admit(paris(), primary.token())
    again = primary.admit(replace(site, name="rome"), primary.token()).site["serial"]
    assert passes.holder(site.id, again).state == "active"
    with pytest.raises(SiteRefused):
        passes.holder(site.id, serial)


def test_a_certificate_speaks_for_its_own_site_only(primary: Primary, database: Database) -> None:
    serial = primary.admit(paris(), primary.token()).site["serial"]
    for site_id, shown in ((new_ulid(), serial), (new_ulid(), "abc")):
        with pytest.raises(SiteRefused, match="not on the list"):
            Passes(database).holder(site_id, shown)
    assert entitled(database, "abc") is None


def test_a_renewal_keeps_the_certificate_in_use_good(primary: Primary, database: Database) -> None:
    site = paris()
    serials = [primary.admit(site, primary.token()).site["serial"]]
    serials += [renewed(database, primary.secrets, site.id, clock=SYSTEM).serial for _ in range(4)]
    passes = Passes(database)
    for good in serials[-2:]:
        assert passes.holder(site.id, good)
    with pytest.raises(SiteRefused):
        passes.holder(site.id, serials[0])


def test_the_list_of_revoked_certificates_names_them(primary: Primary, database: Database) -> None:
    kept, gone = paris(name="rome"), paris()
    kept_serial = primary.admit(kept, primary.token()).site["serial"]
    bundle = primary.admit(gone, primary.token())
    registry.remove(database, "paris")
    revoked = x509.load_pem_x509_crl(crl_pem(database, primary.secrets, clock=SYSTEM))
    authority = x509.load_pem_x509_certificate(bundle.site["authority"].encode())
    assert revoked.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    assert [f"{each.serial_number:x}" for each in revoked] == [bundle.site["serial"]]
    assert revoked.get_revoked_certificate_by_serial_number(int(kept_serial, 16)) is None


def test_the_primary_is_on_the_list_too(primary: Primary, database: Database, tmp_path: Path) -> None:
    me = Site(id=new_ulid(), name="berlin")
    identity = SiteIdentity(tmp_path)
    assert identity.is_due(now_ms=0)
    issued = enlist(database, primary.secrets, me, clock=SYSTEM)
    identity.keep(issued)
    identity.client_context()
    assert not identity.is_due(now_ms=SYSTEM.now_ms())
    assert identity.is_due(now_ms=issued.renew_at_ms)
    assert site_by(database, me.id).name == "berlin"


def test_a_paused_site_is_not_waited_for(primary: Primary, database: Database) -> None:
    primary.admit(paris(mode="sync"), primary.token())
    assert site_by(database, "paris").is_waited_for
    assert not registry.change(database, "paris", state="paused").is_waited_for
    assert site_by(database, "paris").state == "paused"
    assert not registry.change(database, "paris", state="active", mode="async").is_waited_for
    with pytest.raises(NoSuchSite):
        registry.change(database, "rome", mode="sync")


def test_what_a_site_acknowledged_does_not_go_back(primary: Primary, database: Database) -> None:
    site = paris()
    primary.admit(site, primary.token())
    registry.note_acknowledged(database, site.id, feed="f", position=9, at_ms=20)
    registry.note_acknowledged(database, site.id, feed="f", position=5, at_ms=10)
    listed = site_by(database, "paris")
    assert (listed.feed, listed.position, listed.acknowledged_ms) == ("f", 9, 20)


class Away:
    """A database that can be switched off."""

    def __init__(self, database: Database) -> None:
        self.inner = database
        self.is_away = False

    def __getattr__(self, name: str) -> object:
        if self.is_away:
            raise Unavailable("the database is away")
        return getattr(self.inner, name)


def test_while_the_database_is_away_the_last_answer_counts(primary: Primary, database: Database) -> None:
    site = paris()
    serial = primary.admit(site, primary.token()).site["serial"]
    away = Away(database)
    passes = Passes(away, fresh_s=0)  # type: ignore[arg-type]
    passes.holder(site.id, serial)
    away.is_away = True
    assert passes.holder(site.id, serial).name == "paris"
    with pytest.raises(Unavailable):
        passes.holder(site.id, "abc")


def test_an_answer_without_a_certificate_is_said() -> None:
    with pytest.raises(NotASite, match="certificate"):
        issued_in({"key": "x"})
