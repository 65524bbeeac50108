//! What a client's certificate says, read once a connection.

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

use crate::domain::{ClientCertificate, hex};

/// Reads a certificate. None where it is none; it need not be one that anybody vouches for.
#[must_use]
pub fn read(der: &[u8]) -> Option<ClientCertificate> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let (mut dns, mut emails, mut uris) = (Vec::new(), Vec::new(), Vec::new());
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => dns.push(Box::from(*name)),
                GeneralName::RFC822Name(name) => emails.push(Box::from(*name)),
                GeneralName::URI(name) => uris.push(Box::from(*name)),
                _ => {}
            }
        }
    }
    let subject = certificate.subject();
    Some(ClientCertificate {
        common_names: texts(subject.iter_common_name()),
        organizations: texts(subject.iter_organization()),
        organizational_units: texts(subject.iter_organizational_unit()),
        dns,
        emails,
        uris,
        fingerprint: fingerprint(der),
        serial: serial(certificate.raw_serial()),
        not_after: certificate.validity().not_after.timestamp(),
        der: der.into(),
    })
}

/// SHA-256 in lower-case hexadecimal digits.
pub(super) fn fingerprint(der: &[u8]) -> Box<str> {
    hex(digest(&SHA256, der).as_ref()).into()
}

/// A serial number as it is compared: lower-case hexadecimal digits, in pairs, without leading zeros.
pub(super) fn serial(bytes: &[u8]) -> Box<str> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    hex(bytes.get(zeros..).unwrap_or_default()).into()
}

fn texts<'a, 'c: 'a>(attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'c>>) -> Vec<Box<str>> {
    attributes.filter_map(|attribute| attribute.as_str().ok()).map(Box::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType, SerialNumber};

    use super::*;

    fn der() -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Alice Ä");
        params.distinguished_name.push(DnType::OrganizationName, DnValue::PrintableString("Acme".try_into().unwrap()));
        params.distinguished_name.push(DnType::OrganizationalUnitName, "Search");
        params.subject_alt_names = vec![
            SanType::URI("spiffe://corp/tenant/acme".try_into().unwrap()),
            SanType::DnsName("a.acme.example".try_into().unwrap()),
            SanType::Rfc822Name("alice@acme.example".try_into().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            SanType::URI("https://acme.example/".try_into().unwrap()),
        ];
        params.serial_number = Some(SerialNumber::from_slice(&[0x00, 0x0a, 0x1b]));
        params.not_after = time::macros::datetime!(2100-01-01 0:00 UTC);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn what_a_certificate_says_is_read_field_by_field() {
        let der = der();
        let read = read(&der).unwrap();
        let all = |values: &[Box<str>]| values.join("|");
        assert_eq!(
            [&read.common_names, &read.organizations, &read.organizational_units].map(|values| all(values)),
            ["Alice Ä", "Acme", "Search"]
        );
        assert_eq!(
            [&read.uris, &read.dns, &read.emails].map(|values| all(values)),
            ["spiffe://corp/tenant/acme|https://acme.example/", "a.acme.example", "alice@acme.example"]
        );
        assert_eq!((&*read.serial, read.not_after, read.fingerprint.len()), ("0a1b", 4_102_444_800, 64));
        assert_eq!(&*read.der, der);
        assert_eq!(super::read(&[&der[..], b"x"].concat()), None, "what follows is not of it");
    }

    #[test]
    fn no_damage_to_a_certificate_panics() {
        let der = der();
        proptest!(|(at in 0..der.len(), byte in any::<u8>(), end in 0..der.len())| {
            let mut damaged = der.clone();
            damaged[at] = byte;
            drop(read(&damaged));
            prop_assert_eq!(read(&damaged[..end]), None);
        });
    }
}
