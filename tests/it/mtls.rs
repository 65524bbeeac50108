//! Client certificates: whom they name, on either HTTP version, and that a revocation counts from the next request on.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use time::macros::datetime;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{PATIENCE, Raw, h2_call, h2_over};
use crate::record::log;
use crate::wire::ECHO;
use crate::world::{Dir, World, jwt, world};

const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;
const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;

/// An authority for clients.
struct Clients {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A client's certificate and key.
struct Client {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Clients {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A client of an organization (none where it is empty), by a serial number of one byte.
    fn client(&self, organization: &str, name: &str, serial: u8) -> Client {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if !organization.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://corp/tenant/{organization}/user/{name}").try_into().unwrap())];
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Client { certificate: certificate.der().clone(), key: key.serialize_der() }
    }

    fn revocation_list(&self, serials: &[u8]) -> String {
        let revoked = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*serial]),
            revocation_time: datetime!(2026-01-01 0:00 UTC),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: datetime!(2026-01-01 0:00 UTC),
            next_update: datetime!(2126-01-01 0:00 UTC),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// What a listener judges clients by, and a world whose second listener does.
struct Place {
    world: World,
    dir: Dir,
    clients: Clients,
}

impl Place {
    /// `asks` is more of the listener's `tls`, beside `client_ca`; files are written before.
    async fn new(files: impl FnOnce(&Clients) -> Vec<(&'static str, String)>, asks: &str, methods: &str) -> Self {
        let (dir, clients) = (Dir::new(), Clients::new());
        fs::write(dir.join("clients-ca.pem"), &clients.pem).unwrap();
        for (name, text) in files(&clients) {
            fs::write(dir.join(name), text).unwrap();
        }
        let path = dir.display();
        let asks = asks.replace("DIR", &path.to_string());
        let yaml = format!(
            "record: {{ access_log: {{ to: access.log }} }}\n{methods}\nlisteners: [{{ address: '127.0.0.1:0' }}, {{ address: '127.0.0.1:0', tls: {{ certificates: [{{ certificate: tls.pem, key: tls-key.pem }}], client_ca: {path}/clients-ca.pem, {asks} }} }}]\n"
        );
        Self { world: world(&yaml).await, dir, clients }
    }

    /// Replaces a file as a careful operator does: written beside it, then renamed.
    fn replace(&self, name: &str, text: &str) {
        fs::write(self.dir.join("new"), text).unwrap();
        fs::rename(self.dir.join("new"), self.dir.join(name)).unwrap();
    }

    fn tls(&self, client: Option<&Client>, version: &'static SupportedProtocolVersion, alpn: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.world.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap().with_root_certificates(roots);
        let mut config = match client {
            Some(client) => {
                let key = PrivateKeyDer::try_from(client.key.clone()).unwrap();
                builder.with_client_auth_cert(vec![client.certificate.clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }

    async fn connect(&self, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.world.tls).await?;
        let connecting = TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from("localhost").unwrap(), stream);
        tokio::time::timeout(PATIENCE, connecting).await.unwrap()
    }

    /// An HTTP/1.1 connection that has carried a request. None where handshake or request came to nothing.
    async fn open(&self, config: &Arc<ClientConfig>) -> Option<(Raw, StatusCode)> {
        let mut raw = Raw::over(self.connect(config).await.ok()?);
        let status = ask(&mut raw, "").await?;
        Some((raw, status))
    }

    /// Tenant, user and way of proof of the last exchange.
    async fn last(&self) -> (String, String, String) {
        self.world.until_idle().await;
        let line = log(&self.world).await.pop().unwrap();
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (field("tenant"), field("user"), field("identity"))
    }
}

/// One request; none where the connection is at its end.
async fn ask(raw: &mut Raw, extra: &str) -> Option<StatusCode> {
    if !raw.try_send(format!("GET {ECHO}/x HTTP/1.1\r\nHost: gateway\r\n{extra}\r\n")).await {
        return None;
    }
    raw.try_answer().await.map(|answer| answer.status)
}

async fn ask_h2(send: &mut h2::client::SendRequest<Bytes>) -> StatusCode {
    let request = Request::get(format!("https://gateway{ECHO}/x")).body(()).unwrap();
    h2_call(send, request, Bytes::new()).await.status
}

const BY_SUBJECT: &str = "identity: [{ client_certificate: { tenant: subject.organization } }]";

fn named(tenant: &str, user: &str) -> (String, String, String) {
    (tenant.to_owned(), user.to_owned(), "client_certificate".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_tenant_and_user_on_both_http_and_tls_versions() {
    let uri =
        "identity: [{ client_certificate: { tenant: { from: san.uri, prefix: 'spiffe://corp/tenant/' }, user: subject.common_name } }]";
    for methods in [BY_SUBJECT, uri] {
        let place = Place::new(|_| Vec::new(), "", methods).await;
        for version in [TLS12, TLS13] {
            for (organization, name) in [("acme", "alice"), ("umbrella", "bob")] {
                let client = place.clients.client(organization, name, 7);
                let (mut raw, status) = place.open(&place.tls(Some(&client), version, b"http/1.1")).await.unwrap();
                assert_eq!(status, StatusCode::OK);
                assert_eq!(place.last().await, named(organization, name));
                assert_eq!(ask(&mut raw, "").await, Some(StatusCode::OK));

                let (mut send, _driven) = h2_over(place.connect(&place.tls(Some(&client), version, b"h2")).await.unwrap()).await;
                for _ in 0..2 {
                    assert_eq!(ask_h2(&mut send).await, StatusCode::OK);
                }
                assert_eq!(place.last().await, named(organization, name));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_another_method_decides_and_with_a_wrong_one_none_does() {
    let token = jwt();
    let token = token.strip_prefix("identity: [").and_then(|text| text.strip_suffix(']')).unwrap();
    let methods = format!("identity: [{{ {token} }}, {{ client_certificate: {{ tenant: subject.organization }} }}]");
    let place = Place::new(|_| Vec::new(), "", &methods).await;
    let token = format!("Authorization: Bearer {}\r\n", place.world.token);
    let (mut raw, status) = place.open(&place.tls(None, TLS13, b"http/1.1")).await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&mut raw, &token).await, Some(StatusCode::OK));

    // One without the tenant's field is a refusal, one of another authority does not get through the handshake.
    let (_, status) = place.open(&place.tls(Some(&place.clients.client("", "nobody", 3)), TLS13, b"http/1.1")).await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let stranger = Clients::new().client("acme", "mallory", 7);
    for version in [TLS12, TLS13] {
        assert!(place.open(&place.tls(Some(&stranger), version, b"http/1.1")).await.is_none());
    }
    // The methods are asked in their order.
    let alice = place.clients.client("acme", "alice", 7);
    let (mut raw, status) = place.open(&place.tls(Some(&alice), TLS13, b"http/1.1")).await.unwrap();
    assert_eq!((status, place.last().await), (StatusCode::OK, named("acme", "alice")));
    assert_eq!(ask(&mut raw, &token).await, Some(StatusCode::OK));
    assert_eq!(place.last().await.2, "jwt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_requires_a_certificate_has_no_handshake_without_one() {
    let place = Place::new(|_| Vec::new(), "client_certificate: required", BY_SUBJECT).await;
    let alice = place.clients.client("acme", "alice", 7);
    for version in [TLS12, TLS13] {
        assert!(place.open(&place.tls(None, version, b"http/1.1")).await.is_none());
        assert_eq!(place.open(&place.tls(Some(&alice), version, b"http/1.1")).await.unwrap().1, StatusCode::OK);
    }
}

/// Connections of two clients, and sessions to resume; then one is revoked, as `revoke` does it.
async fn revoked_by(place: Place, revoke: impl FnOnce(&Place, &Client)) {
    let (alice, bob) = (place.clients.client("acme", "alice", 7), place.clients.client("acme", "bob", 8));
    let (alices, bobs) = (place.tls(Some(&alice), TLS13, b"http/1.1"), place.tls(Some(&bob), TLS13, b"http/1.1"));
    let alices_old = place.tls(Some(&alice), TLS12, b"http/1.1");
    let (mut raw, status) = place.open(&alices).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(place.open(&alices_old).await.unwrap().1, StatusCode::OK);
    let (mut other, status) = place.open(&bobs).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let (mut h2, _driven) = h2_over(place.connect(&place.tls(Some(&alice), TLS13, b"h2")).await.unwrap()).await;
    assert_eq!(ask_h2(&mut h2).await, StatusCode::OK);
    // A resumed session still says whose it is.
    let resumed = place.connect(&alices).await.unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let mut resumed = Raw::over(resumed);
    assert_eq!(ask(&mut resumed, "").await, Some(StatusCode::OK));
    assert_eq!(place.last().await, named("acme", "alice"));

    revoke(&place, &alice);

    let until_refused = async {
        while ask(&mut raw, "").await.expect("the connection stays") == StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, until_refused).await.expect("refused within 30 s");
    // From here on everywhere.
    assert_eq!(ask(&mut raw, "").await, Some(StatusCode::UNAUTHORIZED));
    assert_eq!(ask(&mut resumed, "").await, Some(StatusCode::UNAUTHORIZED));
    assert_eq!(ask_h2(&mut h2).await, StatusCode::UNAUTHORIZED);
    for config in [&alices, &alices_old] {
        let stream = place.connect(config).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(ask(&mut Raw::over(stream), "").await, Some(StatusCode::UNAUTHORIZED), "a resumed session is no way round");
    }
    for version in [TLS12, TLS13] {
        assert!(place.open(&place.tls(Some(&alice), version, b"http/1.1")).await.is_none(), "nor is there a new one");
    }
    // And nobody else is touched.
    assert_eq!(ask(&mut other, "").await, Some(StatusCode::OK));
    assert_eq!(place.open(&bobs).await.unwrap().1, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_revokes_from_the_next_request_on() {
    let place = Place::new(|_| vec![("revoked", "# nobody yet\n".to_owned())], "client_revoked: DIR/revoked", BY_SUBJECT).await;
    revoked_by(place, |place, client| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &client.certificate);
        let fingerprint: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        place.replace("revoked", &format!("{}  # lost laptop\n", fingerprint.join(":")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_number_revokes_from_the_next_request_on() {
    let place = Place::new(|_| vec![("revoked", String::new())], "client_revoked: DIR/revoked", BY_SUBJECT).await;
    revoked_by(place, |place, _| place.replace("revoked", "07\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_revokes_from_the_next_request_on() {
    let place =
        Place::new(|clients| vec![("clients.crl", clients.revocation_list(&[99]))], "client_crl: DIR/clients.crl", BY_SUBJECT).await;
    revoked_by(place, |place, _| place.replace("clients.crl", &place.clients.revocation_list(&[7, 99]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_taken_away_takes_its_clients_along_and_a_broken_file_takes_nobody() {
    let place = Place::new(|_| Vec::new(), "", BY_SUBJECT).await;
    let alice = place.clients.client("acme", "alice", 7);
    let config = place.tls(Some(&alice), TLS13, b"http/1.1");
    let (mut raw, status) = place.open(&config).await.unwrap();
    assert_eq!(status, StatusCode::OK);

    place.replace("clients-ca.pem", "-----BEGIN CERTIFICATE-----\nhalf of");
    let kept = || place.world.metric(r#"tollgate_certificate_reloads_total{outcome="kept_old"}"#) > 0.0;
    crate::client::eventually("the broken file is noticed", kept).await;
    assert_eq!(ask(&mut raw, "").await, Some(StatusCode::OK));
    assert_eq!(place.open(&place.tls(Some(&alice), TLS13, b"http/1.1")).await.unwrap().1, StatusCode::OK);

    let others = Clients::new();
    place.replace("clients-ca.pem", &others.pem);
    let until_refused = async {
        while ask(&mut raw, "").await.expect("the connection stays") == StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, until_refused).await.expect("refused within 30 s");
    assert!(place.open(&place.tls(Some(&alice), TLS13, b"http/1.1")).await.is_none());
    let carol = others.client("acme", "carol", 1);
    assert_eq!(place.open(&place.tls(Some(&carol), TLS13, b"http/1.1")).await.unwrap().1, StatusCode::OK);
}
