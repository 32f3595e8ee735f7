//! Certificates of an Authlete: a good one, and what can be wrong with one.

use std::sync::{Arc, LazyLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Certificate {
    Good,
    OfAnotherName,
    Expired,
    NotYetValid,
    OfAnUnknownIssuer,
    OfAnImpostor,
    SelfSigned,
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

static TRUSTED: LazyLock<Issuer> = LazyLock::new(|| issuer("the trusted one"));

fn issuer(name: &str) -> Issuer {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The only authority that is trusted, as PEM.
pub(crate) fn root() -> String {
    TRUSTED.pem()
}

impl Certificate {
    /// Does TLS with this certificate, and offers this protocol.
    pub(crate) fn acceptor(self, protocol: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.of(&key)], PrivateKeyDer::from(private))
            .unwrap();
        config.alpn_protocols = vec![protocol.into()];
        TlsAcceptor::from(Arc::new(config))
    }

    fn of(self, key: &KeyPair) -> CertificateDer<'static> {
        let name = if self == Self::OfAnotherName { "elsewhere.example" } else { "127.0.0.1" };
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        match self {
            Self::Expired => params.not_after = date_time_ymd(2001, 1, 1),
            Self::NotYetValid => params.not_before = date_time_ymd(4000, 1, 1),
            _ => {}
        }
        let signed = match self {
            Self::SelfSigned => params.self_signed(key),
            Self::OfAnUnknownIssuer => params.signed_by(key, &issuer("somebody")),
            Self::OfAnImpostor => params.signed_by(key, &issuer("the trusted one")),
            _ => params.signed_by(key, &TRUSTED),
        };
        signed.unwrap().der().clone()
    }
}
