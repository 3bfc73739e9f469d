"""The certificates by which a session and its containers know each other."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import EngineUnavailable
from lifecycle_magic.wire.swarm_connection import KERNEL_NAME

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["Authority"]

VALID = datetime.timedelta(days=400)
"""How long a session's certificates are good for: longer than a kernel runs."""

EARLIER = datetime.timedelta(days=1)
"""The clock of a node may be that far behind."""


class Authority:
    """A session's own authority. Its key is in this process's memory alone.

    Raises `EngineUnavailable` where the package that makes certificates is missing.
    """

    def __init__(self) -> None:
        try:
            import cryptography  # noqa: F401
        except ImportError:
            raise EngineUnavailable(
                "a swarm takes the package cryptography, which is not installed. "
                "Fix: pip install 'lifecycle-magic[swarm]'"
            ) from None
        self._key = _new_key()
        self._certificate = _certificate(self._key, "lifecycle-magic session")
        self.pem = _pem(self._certificate)
        """Its certificate, which all others are checked against."""

    def identity(self, name: str, *, serves: bool = False) -> str:
        """Return a new certificate for ``name`` and its key, as one PEM text.

        With ``serves`` it is the kernel's, otherwise a container's.
        """
        from cryptography.hazmat.primitives import serialization

        key = _new_key()
        certificate = _certificate(key, name, self._certificate, self._key, serves=serves)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return _pem(certificate) + private.decode()


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    return str(certificate.public_bytes(serialization.Encoding.PEM).decode())


def _certificate(
    key: EllipticCurvePrivateKey,
    name: str,
    issuer: Any = None,
    issuer_key: EllipticCurvePrivateKey | None = None,
    *,
    serves: bool = False,
) -> Any:
    """Return a certificate, by default one that signs others and itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.timezone.utc)
    signer = issuer_key or key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        # Python 3.13 checks certificates by RFC 5280, which wants both identifiers.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
        .add_extension(_usage(signs=issuer is None), critical=True)
    )
    if issuer is not None:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if serves else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if serves:
        names = x509.SubjectAlternativeName([x509.DNSName(KERNEL_NAME)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _usage(*, signs: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
