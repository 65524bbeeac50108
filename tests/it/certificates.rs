//! The gateway's own certificates, re-read when they change, under load.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::StatusCode;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tollgate::demo::{Authority, Certificate};

use crate::client::{PATIENCE, Raw};
use crate::connections::client_config;
use crate::wire::ECHO;
use crate::world::{Dir, World, world};

/// A world whose second listener has the certificate in `dir`.
async fn start(dir: &Dir, first: &Certificate) -> World {
    fs::write(dir.join("a.pem"), &first.certificate).unwrap();
    fs::write(dir.join("a-key.pem"), &first.key).unwrap();
    let path = dir.display();
    world(&format!(
        "listeners: [{{ address: '127.0.0.1:0' }}, {{ address: '127.0.0.1:0', tls: {{ certificates: [{{ certificate: {path}/a.pem, key: {path}/a-key.pem }}] }} }}]"
    ))
    .await
}

fn leaf(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap()
}

async fn connect(world: &World, config: &Arc<ClientConfig>) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(world.tls).await.unwrap();
    let connecting = TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from("localhost").unwrap(), stream);
    tokio::time::timeout(PATIENCE, connecting).await.unwrap().unwrap()
}

/// The certificate that a new client is shown.
async fn shown(world: &World, authority: &Authority) -> CertificateDer<'static> {
    let config = client_config(&authority.pem(), &rustls::version::TLS13, &[b"http/1.1"]);
    connect(world, &config).await.get_ref().1.peer_certificates().unwrap()[0].clone()
}

async fn until_shown(world: &World, authority: &Authority, certificate: &Certificate) {
    let waiting = async {
        while shown(world, authority).await != leaf(certificate) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the new certificate within 30 s");
}

async fn served(raw: &mut Raw, world: &World) {
    raw.send(format!("GET {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\r\n", world.token)).await;
    assert_eq!(raw.answer().await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_no_request_is_lost() {
    let (dir, authority) = (Dir::new(), Authority::new().unwrap());
    let [one, two, three] = [0; 3].map(|_| authority.issue(&["localhost"]).unwrap());
    let world = start(&dir, &one).await;
    assert_eq!(shown(&world, &authority).await, leaf(&one));
    let config = client_config(&authority.pem(), &rustls::version::TLS13, &[b"http/1.1"]);
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let kept_alive = async {
        let mut raw = Raw::over(connect(&world, &config).await);
        while !done.load(Ordering::Relaxed) {
            served(&mut raw, &world).await;
            sent.fetch_add(1, Ordering::Relaxed);
        }
    };
    // Some resume their sessions, some shake hands in full.
    let new = async {
        while !done.load(Ordering::Relaxed) {
            let fresh = client_config(&authority.pem(), &rustls::version::TLS12, &[b"http/1.1"]);
            for config in [&config, &fresh] {
                served(&mut Raw::over(connect(&world, config).await), &world).await;
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let kept_old = || world.metric(r#"tollgate_certificate_reloads_total{outcome="kept_old"}"#);
    let swapped = async {
        // The certificate first: for a while it does not fit the key, and the old pair is served on.
        fs::write(dir.join("a.pem"), &two.certificate).unwrap();
        let noticed = async {
            while kept_old() == 0.0 {
                assert_eq!(shown(&world, &authority).await, leaf(&one), "a pair that does not fit is never shown");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, noticed).await.expect("the misfit is noticed");
        fs::write(dir.join("a-key.pem"), &two.key).unwrap();
        until_shown(&world, &authority, &two).await;

        // A file that is gone, and half of one, change nothing.
        let before = kept_old();
        fs::remove_file(dir.join("a-key.pem")).unwrap();
        fs::write(dir.join("a.pem"), &three.certificate.as_bytes()[..three.certificate.len() / 2]).unwrap();
        let noticed = async {
            while kept_old() == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, noticed).await.expect("half a file is noticed");
        assert_eq!(shown(&world, &authority).await, leaf(&two));

        for (name, text) in [("a.pem", &three.certificate), ("a-key.pem", &three.key)] {
            fs::write(dir.join("new"), text).unwrap();
            fs::rename(dir.join("new"), dir.join(name)).unwrap();
        }
        until_shown(&world, &authority, &three).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(kept_alive, new, swapped);
    assert!(sent.load(Ordering::Relaxed) > 20, "there was load");
    assert!(world.metric(r#"tollgate_certificate_reloads_total{outcome="taken"}"#) >= 2.0);
    // A session outlives the certificate that it began with.
    let stream = connect(&world, &config).await;
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}
