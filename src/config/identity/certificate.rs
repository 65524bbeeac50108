//! `client_certificate`: which names in a certificate are the caller's.

use crate::config::reader::{Checked, FromValue, Value, suggest};

/// Names from client certificates, of which a listener's `client_ca` vouches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// What names the tenant. A certificate without it is refused.
    pub tenant: CertificateName,
    /// What names the user. Default `subject.common_name`; a certificate without it has no user.
    pub user: CertificateName,
}

/// A name in a certificate: all of a field, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// Where it stands.
    pub from: CertificateField,
    /// What stands before it; it goes from there to the next `/`. None: it is all of the field.
    pub prefix: Option<String>,
}

/// A field of a certificate (RFC 5280, sections 4.1.2.6 and 4.2.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`CertificateField::ALL` says what each is called")]
pub enum CertificateField {
    CommonName,
    Organization,
    OrganizationalUnit,
    Uri,
    Dns,
    Email,
}

impl FromValue for ClientCertificate {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let tenant = map.required("tenant", "subject.organization");
        let user = map.or("user", CertificateName { from: CertificateField::CommonName, prefix: None });
        map.finish()?;
        Ok(Self { tenant: tenant?, user: user? })
    }
}

impl FromValue for CertificateName {
    /// `subject.organization`, or `{ from: san.uri, prefix: "spiffe://corp/tenant/" }`.
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        if value.as_text().is_some() {
            return Ok(Self { from: CertificateField::from_value(value)?, prefix: None });
        }
        let mut map = value.map()?;
        let (from, prefix) = (map.required("from", "san.uri"), map.optional("prefix"));
        map.finish()?;
        Ok(Self { from: from?, prefix: prefix? })
    }
}

impl CertificateField {
    /// Every field by the name it has in gateway.yaml.
    pub const ALL: [(&'static str, Self); 6] = [
        ("subject.common_name", Self::CommonName),
        ("subject.organization", Self::Organization),
        ("subject.organizational_unit", Self::OrganizationalUnit),
        ("san.uri", Self::Uri),
        ("san.dns", Self::Dns),
        ("san.email", Self::Email),
    ];
}

impl FromValue for CertificateField {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        if let Some((_, field)) = Self::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(*field);
        }
        value.refuse_with(format!("{} is no field of a certificate", value.quoted()), suggest(text, &Self::ALL.map(|(name, _)| name)))
    }
}
