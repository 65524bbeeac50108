//! Keys that sign, and the tokens that they sign. RSA keys take long to make, so each is made once.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(super) enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    P521(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The key of `https://idp.example`.
pub(super) fn rsa() -> &'static Signer {
    static KEY: LazyLock<Signer> = LazyLock::new(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
    &KEY
}

/// Somebody else's.
pub(super) fn other_rsa() -> &'static Signer {
    static KEY: LazyLock<Signer> = LazyLock::new(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
    &KEY
}

pub(super) fn p256() -> Signer {
    Signer::P256(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
}

pub(super) fn p384() -> Signer {
    Signer::P384(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
}

pub(super) fn p521() -> Signer {
    Signer::P521(EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap())
}

pub(super) fn ed25519() -> Signer {
    Signer::Ed25519(Ed25519KeyPair::generate().unwrap())
}

pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// The public key as an issuer publishes it.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        let ec = |crv: &str, key: &EcdsaKeyPair| {
            let (x, y) = key.public_key().as_ref()[1..].split_at((key.public_key().as_ref().len() - 1) / 2);
            json!({ "kty": "EC", "kid": kid, "use": "sig", "crv": crv, "x": base64url(x), "y": base64url(y) })
        };
        match self {
            Self::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "kid": kid, "use": "sig", "n": base64url(public.n), "e": base64url(public.e) })
            }
            Self::P256(key) => ec("P-256", key),
            Self::P384(key) => ec("P-384", key),
            Self::P521(key) => ec("P-521", key),
            Self::Ed25519(key) => json!({ "kty": "OKP", "kid": kid, "crv": "Ed25519", "x": base64url(key.public_key()) }),
        }
    }

    /// The public key as an attacker might use it for an HMAC secret: PKCS#1, X.509, and PEM of the latter.
    pub(super) fn public_encodings(&self) -> Vec<Vec<u8>> {
        let Self::Rsa(key) = self else { panic!("only for RSA") };
        let x509: aws_lc_rs::encoding::PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let pem = base64::engine::general_purpose::STANDARD.encode(x509.as_ref());
        let lines: Vec<_> = pem.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        vec![key.public_key().as_ref().to_vec(), x509.as_ref().to_vec(), pem.into_bytes()]
    }

    /// A token of these parts, signed as its `alg` says.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = signed_part(header, claims);
        let signature = self.sign(header["alg"].as_str().unwrap_or("RS256"), signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    }

    pub(super) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let padding: &dyn signature::RsaEncoding = match algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::P256(key) | Self::P384(key) | Self::P521(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// Header and claims, as they are signed.
pub(super) fn signed_part(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()))
}
