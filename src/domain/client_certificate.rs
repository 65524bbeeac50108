//! What a client's certificate says.

/// A certificate that a client showed, and proved to hold the key of, when its connection began. Its issuer vouches for every name in it.
///
/// A name that is no text (an odd string type of X.500) is left out. A field can stand in a certificate more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// `CN` of the subject.
    pub common_names: Vec<Box<str>>,
    /// `O` of the subject.
    pub organizations: Vec<Box<str>>,
    /// `OU` of the subject.
    pub organizational_units: Vec<Box<str>>,
    /// Subject alternative names: DNS names.
    pub dns: Vec<Box<str>>,
    /// Subject alternative names: mail addresses.
    pub emails: Vec<Box<str>>,
    /// Subject alternative names: URIs, as SPIFFE's.
    pub uris: Vec<Box<str>>,
    /// SHA-256 of the certificate: 64 lower-case hexadecimal digits.
    pub fingerprint: Box<str>,
    /// The serial number its issuer gave it: lower-case hexadecimal digits, in pairs, without leading zeros.
    pub serial: Box<str>,
    /// The last second of its validity, in Unix seconds; below zero before 1970.
    pub not_after: i64,
    /// The certificate itself (X.509, DER).
    pub der: Box<[u8]>,
}
