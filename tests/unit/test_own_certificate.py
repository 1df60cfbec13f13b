"""What is no usable certificate is said before anything starts, by the setting it came from."""

import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.certificates import Authority, pem_of

from refloat.domain.errors import Unavailable
from refloat.routers.caddy.tls import read_own, read_roots

NOW = datetime.datetime.now(datetime.UTC)


def refusal(certificate: Path, key: Path) -> str:
    with pytest.raises(Unavailable) as caught:
        read_own(str(certificate), str(key), NOW)
    return str(caught.value)


def test_a_pair_is_taken_as_it_is(tmp_path: Path) -> None:
    authority = Authority("company")
    certificate, key = authority.issue(tmp_path, "*.apps.test")
    chain = certificate.read_text() + authority.certificate
    certificate.write_text(chain)
    assert read_own(str(certificate), str(key), NOW) == (chain, key.read_text())


def test_a_file_that_is_not_there_or_holds_something_else_is_named_with_its_setting(tmp_path: Path) -> None:
    certificate, key = Authority("company").issue(tmp_path, "apps.test")
    nowhere, text, binary = tmp_path / "nowhere.pem", tmp_path / "text.pem", tmp_path / "der.pem"
    text.write_text("hello")
    binary.write_bytes(b"\x30\x82\xff\xfe")
    for wrong, words in (
        (nowhere, f"{nowhere} cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (binary, "is not text"),
    ):
        assert "REFLOAT_TLS_CERT: " in refusal(wrong, key) and words in refusal(wrong, key)
        assert "REFLOAT_TLS_KEY: " in refusal(certificate, wrong) and words in refusal(certificate, wrong)
    assert "REFLOAT_TLS_CERT" in refusal(text, key) and "holds no certificate" in refusal(text, key)
    assert "holds no certificate" in refusal(key, key)
    assert "REFLOAT_TLS_KEY" in refusal(certificate, text)
    assert "holds no private key" in refusal(certificate, certificate)


def test_a_key_of_another_certificate_or_under_a_passphrase_is_refused(tmp_path: Path) -> None:
    certificate, key = Authority("company").issue(tmp_path, "apps.test")
    other = ec.generate_private_key(ec.SECP256R1())
    key.write_text(pem_of(other))
    assert f"the key in {key} does not belong to the certificate in {certificate}" in refusal(
        certificate, key
    )
    key.write_text(pem_of(other, b"secret"))
    assert f"the key in {key} is encrypted" in refusal(certificate, key)
    assert "openssl pkey" in refusal(certificate, key)


def test_a_certificate_that_has_ended_is_refused_with_its_day(tmp_path: Path) -> None:
    certificate, key = Authority("company").issue(tmp_path, "apps.test", days=-1)
    yesterday = f"{NOW - datetime.timedelta(days=1):%F}"
    assert f"ended on {yesterday}" in refusal(certificate, key)


def test_roots_are_read_by_the_same_rules(tmp_path: Path) -> None:
    wrong = tmp_path / "roots.pem"
    wrong.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    with pytest.raises(Unavailable, match=f"REFLOAT_ACME_ROOTS: {wrong} holds no certificate"):
        read_roots("REFLOAT_ACME_ROOTS", str(wrong))
