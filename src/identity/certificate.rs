//! Who a client certificate names. That it is good, its listener has found; here it is only read.

use std::sync::Arc;

use super::claims::is_name;
use crate::config::identity::{CertificateField, CertificateName, ClientCertificate as Names};
use crate::domain::{ClientCertificate, Method, Principal, Reason, Rejection};

/// Why a good certificate names no one. It holds no name of the certificate's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("the client certificate has no `{0}` for the tenant, or none with the configured prefix")]
    NoTenant(&'static str),
    #[error("the client certificate has more than one `{0}`, and each would be another tenant or user")]
    Ambiguous(&'static str),
    #[error("`{0}` of the client certificate is not a text of 1 to 256 bytes without control characters, or it is `(mirror)`")]
    Malformed(&'static str),
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        // Its holder proved to have it, and can read it: what is missing may be told.
        Self::new(Reason::Unauthenticated, fault.to_string()).because(fault)
    }
}

/// The caller whose certificate this is.
///
/// # Errors
/// Where it has no tenant, or more than one, or a name that can't be one.
pub(super) fn principal(names: &Names, certificate: &ClientCertificate) -> Result<Principal, Rejection> {
    let tenant = name(certificate, &names.tenant)?.ok_or_else(|| Fault::NoTenant(label(names.tenant.from)))?;
    let user = name(certificate, &names.user)?;
    Ok(Principal {
        tenant: tenant.into(),
        user: user.map(Arc::from),
        groups: Arc::default(),
        method: Method::ClientCertificate,
        key_id: Some((*certificate.fingerprint).into()),
    })
}

/// The one name that the certificate gives; the same one may stand there twice.
fn name<'c>(certificate: &'c ClientCertificate, wanted: &CertificateName) -> Result<Option<&'c str>, Fault> {
    let mut found = None;
    for value in values(certificate, wanted.from) {
        let Some(candidate) = part(value, wanted.prefix.as_deref()) else { continue };
        if !is_name(candidate) {
            return Err(Fault::Malformed(label(wanted.from)));
        }
        if found.is_some_and(|found| found != candidate) {
            return Err(Fault::Ambiguous(label(wanted.from)));
        }
        found = Some(candidate);
    }
    Ok(found)
}

/// What follows the prefix, to the next `/`; all of it where no prefix is asked for.
fn part<'v>(value: &'v str, prefix: Option<&str>) -> Option<&'v str> {
    match prefix {
        None => Some(value),
        Some(prefix) => value.strip_prefix(prefix)?.split('/').next().filter(|part| !part.is_empty()),
    }
}

fn values(certificate: &ClientCertificate, field: CertificateField) -> impl Iterator<Item = &str> {
    let values = match field {
        CertificateField::CommonName => &certificate.common_names,
        CertificateField::Organization => &certificate.organizations,
        CertificateField::OrganizationalUnit => &certificate.organizational_units,
        CertificateField::Uri => &certificate.uris,
        CertificateField::Dns => &certificate.dns,
        CertificateField::Email => &certificate.emails,
    };
    values.iter().map(|value| &**value)
}

fn label(field: CertificateField) -> &'static str {
    CertificateField::ALL.iter().find(|(_, known)| *known == field).map_or("field", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::config::identity::{Anonymous, Method as Configured};
    use crate::identity::{Finding, Identity, Presented};

    fn shown() -> ClientCertificate {
        let texts = |texts: &[&str]| texts.iter().map(|text| Box::from(*text)).collect();
        ClientCertificate {
            common_names: texts(&["alice"]),
            organizations: texts(&["acme"]),
            organizational_units: texts(&["search", "ads"]),
            dns: texts(&["a.acme.example", "a.acme.example"]),
            emails: texts(&["alice@acme.example"]),
            uris: texts(&["https://elsewhere.example/x", "spiffe://corp/tenant/acme/user/alice"]),
            fingerprint: "ab".repeat(32).into(),
            serial: "0a".into(),
            not_after: i64::MAX,
            der: Box::default(),
        }
    }

    fn by(from: CertificateField, prefix: Option<&str>) -> CertificateName {
        CertificateName { from, prefix: prefix.map(str::to_owned) }
    }

    #[test]
    fn every_field_names_a_tenant_and_a_prefix_takes_one_segment() {
        use CertificateField::{CommonName, Dns, Email, Organization, OrganizationalUnit, Uri};
        for (from, prefix, expected) in [
            (CommonName, None, Ok("alice")),
            (Organization, None, Ok("acme")),
            (Dns, None, Ok("a.acme.example")),
            (Email, None, Ok("alice@acme.example")),
            (Uri, Some("spiffe://corp/tenant/"), Ok("acme")),
            (Uri, Some("spiffe://corp/tenant/acme/user/"), Ok("alice")),
            (Organization, Some("ac"), Ok("me")),
            (Uri, Some("spiffe://other/"), Err("has no `san.uri`")),
            (Organization, Some("acme"), Err("has no `subject.organization`")),
            (Uri, None, Err("more than one `san.uri`")),
            (OrganizationalUnit, None, Err("more than one `subject.organizational_unit`")),
        ] {
            let names = Names { tenant: by(from, prefix), user: by(CommonName, None) };
            match (principal(&names, &shown()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!((&*found.tenant, found.user.as_deref()), (expected, Some("alice"))),
                (Err(refused), Err(expected)) => {
                    assert_eq!(refused.reason, Reason::Unauthenticated);
                    assert!(refused.message.contains(expected), "{}", refused.message);
                }
                (found, expected) => panic!("{from:?} {prefix:?}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_certificate_without_the_tenants_field_is_refused_and_without_the_users_is_not() {
        let names = Names { tenant: by(CertificateField::Organization, None), user: by(CertificateField::CommonName, None) };
        let mut nobody = shown();
        nobody.common_names.clear();
        assert_eq!(principal(&names, &nobody).unwrap().user, None);
        for organizations in [vec![], vec![""], vec![" "], vec!["a\0b"], vec!["a\nb"], vec!["(mirror)"]] {
            nobody.organizations = organizations.into_iter().map(Box::from).collect();
            assert!(principal(&names, &nobody).is_err());
        }
        nobody.organizations = vec!["x".repeat(257).into()];
        assert!(principal(&names, &nobody).is_err());
    }

    #[test]
    fn no_certificate_lets_the_next_method_try_and_a_wrong_one_does_not() {
        let names = Names { tenant: by(CertificateField::Organization, None), user: by(CertificateField::CommonName, None) };
        let everyone = Configured::Anonymous(Anonymous { tenant: "public".to_owned() });
        let identity = Identity::build(&[Configured::ClientCertificate(names), everyone]).unwrap();
        let headers = HeaderMap::new();
        let tenant = |certificate: Option<&ClientCertificate>| {
            let presented = Presented { certificate, ..Presented::by(&headers) };
            let Finding::Known(found) = identity.identify(&presented, std::time::SystemTime::UNIX_EPOCH)? else {
                panic!("known by the head")
            };
            Ok::<_, Rejection>((found.tenant.to_string(), found.method.label(), found.key_id.as_deref().map(str::len)))
        };
        let mut certificate = shown();
        assert_eq!(tenant(None).unwrap(), ("public".to_owned(), "anonymous", None));
        assert_eq!(tenant(Some(&certificate)).unwrap(), ("acme".to_owned(), "client_certificate", Some(64)));
        certificate.organizations.clear();
        assert!(tenant(Some(&certificate)).is_err());
    }
}
