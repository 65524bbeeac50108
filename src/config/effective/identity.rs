//! `identity`: one section for each way to prove who is calling.

use serde_yaml::Value;

use super::super::identity::{
    Algorithm, Anonymous, ApiKeys, AwsCredentials, CertificateField, CertificateName, ClaimPath, ClientCertificate, External, Jwt,
    KeySource, Method, Scalar, is_loopback,
};
use super::{Section, Shown};

impl Shown for Method {
    fn shown(&self) -> Value {
        let (name, method) = match self {
            Self::Jwt(jwt) => ("jwt", jwt.shown()),
            Self::ClientCertificate(ClientCertificate { tenant, user }) => {
                ("client_certificate", Section::default().with("tenant", tenant).with("user", user).done())
            }
            Self::External(external) => ("external", external.shown()),
            Self::ApiKeys(ApiKeys { file }) => ("api_keys", Section::default().with("file", file).done()),
            Self::AwsCredentials(AwsCredentials { file, key_file }) => {
                ("aws_credentials", Section::default().with("file", file).some("key_file", key_file.as_ref()).done())
            }
            Self::Anonymous(Anonymous { tenant }) => ("anonymous", Section::default().with("tenant", tenant).done()),
        };
        Section::default().with(name, &method).done()
    }
}

impl Shown for Jwt {
    fn shown(&self) -> Value {
        let Self { issuer, audiences, algorithms, keys, tenant, user, groups, required_claims } = self;
        let section =
            Section::default().with("issuer", issuer).with("audiences", audiences.as_slice()).with("algorithms", algorithms.as_slice());
        let section = match keys {
            KeySource::File(file) => section.with("jwks_file", file),
            KeySource::Secret(file) => section.with("secret_file", file),
            KeySource::Url { url, ca } => section.with("jwks_url", url.uri()).some("ca", ca.as_ref()),
            // Where its keys are follows from the issuer.
            KeySource::Discovery { url: _, ca } => section.some("ca", ca.as_ref()),
        };
        let section = section.with("tenant", tenant).with("user", user).some("groups", groups.as_ref());
        if required_claims.is_empty() {
            return section.done();
        }
        let claims = required_claims.iter().fold(Section::default(), |all, (claim, wanted)| all.with(&claim.0, wanted));
        section.with("required_claims", &claims).done()
    }
}

impl Shown for ClaimPath {
    fn shown(&self) -> Value {
        self.0.shown()
    }
}

impl Shown for Algorithm {
    fn shown(&self) -> Value {
        // Its names are the RFC's, in the code as in the file.
        format!("{self:?}").into()
    }
}

impl Shown for Scalar {
    fn shown(&self) -> Value {
        match self {
            Self::Text(text) => text.shown(),
            Self::Whole(number) => number.shown(),
            Self::Bool(switch) => switch.shown(),
        }
    }
}

impl Shown for CertificateName {
    fn shown(&self) -> Value {
        let Self { from, prefix } = self;
        match prefix {
            None => from.shown(),
            Some(prefix) => Section::default().with("from", from).with("prefix", prefix).done(),
        }
    }
}

impl Shown for CertificateField {
    fn shown(&self) -> Value {
        Self::ALL.iter().find(|(_, field)| field == self).map_or(Value::Null, |(name, _)| (*name).into())
    }
}

impl Shown for External {
    fn shown(&self) -> Value {
        let Self { url, timeout, cache, headers, token_from, ca, on_error } = self;
        let section = Section::default()
            .with("url", url)
            .with("timeout", timeout)
            .with("cache", cache)
            .list("headers", headers)
            .some("token_from", token_from.as_ref())
            .some("ca", ca.as_ref());
        let plain_http = url.scheme_str() == Some("http") && !is_loopback(url);
        if !plain_http && on_error.is_none() {
            return section.done();
        }
        let insecure = Section::default().some("on_error", on_error.as_ref().map(|_| "allow")).some("tenant", on_error.as_ref());
        section.with("insecure", &insecure.with("plain_http", &plain_http)).done()
    }
}
