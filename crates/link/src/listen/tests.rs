//! Real handshakes: who gets in, who does not, and what each side learns of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;

use super::*;
use crate::rig::{Expect, PATIENCE, Raw, Rig, any_port, both_kinds, dial_options, target};
use crate::{AuthorizedKeys, DialOptions, Fault, HostRefused, LaneKind, Outcome, Pace, dial};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("the test hangs")
}

both_kinds! {
    the_right_keys_meet
    a_key_that_is_not_admitted_is_told_so
    a_changed_host_key_stops_the_dialer
    a_full_listener_says_that_it_is_busy
    authorized_keys_decide_at_the_door
    closing_the_listener_tells_everybody
}

async fn the_right_keys_meet(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions::default());
    let (dialed, admitted) = within(rig.pair()).await;
    assert_eq!(dialed.peer(), &rig.host.public_key());
    assert_eq!(admitted.peer(), &rig.friend.public_key());
    assert_eq!(admitted.permissions().unwrap().comment, "friend");
    assert!(dialed.permissions().is_none());
    assert_eq!(dialed.remote_address(), rig.listener.local_addr());
    assert!(admitted.remote_address().ip().is_loopback());
    dialed.close(0x123, "all done\u{1b}[0m");
    let closed = within(admitted.closed()).await;
    assert_eq!(closed.fault(), Fault::Permanent);
    let shown = closed.to_string();
    assert!(shown.contains("code 291: all done_[0m"), "{shown}");
    assert!(shown.contains(&rig.friend.public_key().fingerprint()), "{shown}");
    assert!(matches!(within(dialed.closed()).await, LinkError::ClosedHere { .. }));
    within(dialed.drained(PATIENCE)).await;
}

async fn a_key_that_is_not_admitted_is_told_so(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions::default());
    let stranger = Identity::generate().unwrap();
    let host = Expect(rig.host.public_key());
    let options = DialOptions { kind, ..dial_options() };
    let target = target(rig.listener.local_addr());
    let lane = within(dial(&target, &stranger, &host, &options)).await.unwrap();
    // Whatever is done on the lane says the same.
    let parcel = lane.send_parcel(bytes::Bytes::new(), bytes::Bytes::new(), 0);
    assert!(matches!(within(parcel).await, Err(LinkError::Refused { .. })));
    let accepting = within(lane.accept_parcel()).await.unwrap_err();
    assert!(matches!(accepting, LinkError::Refused { .. }));
    let error = within(lane.welcomed()).await.unwrap_err();
    let LinkError::Refused { peer, reason } = &error else { panic!("{error:?}") };
    assert_eq!(reason, "key is not known_[31m");
    assert_eq!(peer.key(), Some(&rig.host.public_key()));
    assert_eq!(error.fault(), Fault::Denied);
    assert!(error.hint().unwrap().contains("authorized_keys"));
    let mut backoff = crate::Backoff::new(crate::BackoffOptions::default());
    assert_eq!(
        backoff.next(Duration::ZERO, Outcome::Failed(error.fault()), 0),
        crate::Step::GiveUp
    );
}

async fn a_changed_host_key_stops_the_dialer(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions::default());
    let expected = Identity::generate().unwrap().public_key();
    let target = target(rig.listener.local_addr());
    let options = DialOptions { kind, ..dial_options() };
    let check = Expect(expected);
    let dialing = dial(&target, &rig.friend, &check, &options);
    let error = within(dialing).await.unwrap_err();
    let LinkError::HostKey { peer, refused } = &error else { panic!("{error:?}") };
    assert_eq!(refused, &HostRefused::Changed { expected: vec![expected] });
    assert_eq!(peer.key(), Some(&rig.host.public_key()));
    let shown = error.to_string();
    assert!(shown.contains(&expected.fingerprint()), "{shown}");
    assert!(shown.contains(&rig.host.public_key().fingerprint()), "{shown}");
}

/// Counts the tickets that a server gives out.
#[derive(Debug, Default)]
struct Tickets {
    asked: AtomicUsize,
    kept: AtomicUsize,
}

impl rustls::client::ClientSessionStore for Tickets {
    fn set_kx_hint(
        &self,
        _name: rustls::pki_types::ServerName<'static>,
        _group: rustls::NamedGroup,
    ) {
    }

    fn kx_hint(&self, _name: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        None
    }

    fn set_tls12_session(
        &self,
        _name: rustls::pki_types::ServerName<'static>,
        _session: rustls::client::Tls12ClientSessionValue,
    ) {
    }

    fn tls12_session(
        &self,
        _name: &rustls::pki_types::ServerName<'_>,
    ) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _name: &rustls::pki_types::ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        _name: rustls::pki_types::ServerName<'static>,
        _ticket: rustls::client::Tls13ClientSessionValue,
    ) {
        self.kept.fetch_add(1, Ordering::SeqCst);
    }

    fn take_tls13_ticket(
        &self,
        _name: &rustls::pki_types::ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        None
    }
}

#[tokio::test]
async fn every_connection_is_asked_for() {
    let rig = Rig::new(ListenOptions::default());
    // This client would resume if it were given the means: it takes tickets and tries early data.
    let tickets = Arc::new(Tickets::default());
    let mut tls = tls::client_config(&rig.friend).unwrap();
    tls.resumption = rustls::client::Resumption::store(tickets.clone());
    tls.enable_early_data = true;
    let raw = Raw::new(tls);
    for round in 1..=2 {
        let connecting = raw
            .endpoint
            .connect_with(raw.config.clone(), rig.listener.local_addr(), "haul")
            .unwrap();
        let connecting = connecting.into_0rtt().err().expect("no early data without a ticket");
        let connection = within(connecting).await.unwrap();
        let lane = within(rig.listener.accept()).await.unwrap();
        assert_eq!(rig.doorkeeper.asked(), round);
        assert_eq!(lane.peer(), &rig.friend.public_key());
        // The welcome is behind any ticket, so whatever was going to come has come.
        let mut welcome = within(connection.accept_uni()).await.unwrap();
        assert_eq!(within(welcome.read_to_end(9)).await.unwrap(), WELCOME);
        assert_eq!(tickets.asked.load(Ordering::SeqCst), round, "the store is in use");
        assert_eq!(tickets.kept.load(Ordering::SeqCst), 0, "and stays empty");
    }
    rig.doorkeeper.admitted.lock().unwrap().clear();
    let error = within(rig.dial(&dial_options())).await.unwrap_err();
    assert!(matches!(error, LinkError::Refused { .. }), "{error:?}");
    assert_eq!(rig.doorkeeper.asked(), 3);
}

#[tokio::test]
async fn another_protocol_version_is_refused_clearly() {
    let rig = Rig::new(ListenOptions::default());
    for protocols in [vec![b"haul/2".to_vec()], vec![b"h3".to_vec()], vec![]] {
        let mut tls = tls::client_config(&rig.friend).unwrap();
        tls.alpn_protocols = protocols;
        let error = within(Raw::new(tls).connect(rig.listener.local_addr())).await.unwrap_err();
        let error = LinkError::from_connection(PeerName::new("host:1"), error);
        let LinkError::Incompatible { detail, .. } = &error else { panic!("{error:?}") };
        assert!(detail.contains("haul/1"), "{detail}");
        assert_eq!(error.fault(), Fault::Permanent);
        assert!(error.hint().unwrap().contains("same version"));
    }
    assert_eq!(rig.doorkeeper.asked(), 0);
}

#[tokio::test]
async fn a_quic_version_of_yesterday_is_refused_clearly() {
    let rig = Rig::new(ListenOptions::default());
    let mut raw = Raw::new(tls::client_config(&rig.friend).unwrap());
    let draft_29 = 0xff00_001d;
    raw.config.version(draft_29);
    let mut config = quinn::EndpointConfig::default();
    config.supported_versions(vec![draft_29]);
    let socket = std::net::UdpSocket::bind(any_port()).unwrap();
    raw.endpoint = Endpoint::new(config, None, socket, Arc::new(TokioRuntime)).unwrap();
    let error = within(raw.connect(rig.listener.local_addr())).await.unwrap_err();
    let error = LinkError::from_connection(PeerName::new("host:1"), error);
    assert!(matches!(error, LinkError::Incompatible { .. }), "{error:?}");
}

/// Shows an X.509 certificate, as any other QUIC client would.
#[derive(Debug)]
struct X509(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for X509 {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes any server, so that the test sees what the server does.
#[derive(Debug)]
struct Credulous {
    raw_keys: bool,
}

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw_keys
    }
}

#[tokio::test]
async fn clients_without_a_raw_key_are_refused() {
    let rig = Rig::new(ListenOptions::default());
    let signer =
        rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(rig.friend.pkcs8()))
            .unwrap();
    // What stands in the certificate does not matter: its kind alone must be enough to be refused.
    let certificate = CertificateDer::from(rig.friend.public_key().to_spki().to_vec());
    let certified = Arc::new(rustls::sign::CertifiedKey::new(vec![certificate], signer));
    for (raw_keys, certificate) in [(false, true), (false, false), (true, true), (true, false)] {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous { raw_keys }));
        let mut tls = match certificate {
            true => builder.with_client_cert_resolver(Arc::new(X509(certified.clone()))),
            false => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![crate::ALPN.to_vec()];
        let error = match within(Raw::new(tls).connect(rig.listener.local_addr())).await {
            // The client is done before the server has seen what it shows.
            Ok(connection) => within(connection.closed()).await,
            Err(error) => error,
        };
        let error = LinkError::from_connection(PeerName::new("host:1"), error);
        assert!(
            matches!(error, LinkError::Incompatible { .. }),
            "{raw_keys} {certificate}: {error:?}"
        );
    }
    assert_eq!(rig.doorkeeper.asked(), 0);
}

#[tokio::test]
async fn a_stranger_signs_for_no_other_key() {
    let rig = Rig::new(ListenOptions::default());
    // The friend's public key with a stranger's signature.
    let stranger = Identity::generate().unwrap();
    let signer =
        rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(stranger.pkcs8()))
            .unwrap();
    let spki = CertificateDer::from(rig.friend.public_key().to_spki().to_vec());
    let forged = Arc::new(rustls::sign::CertifiedKey::new(vec![spki], signer));
    let mut tls = tls::client_config(&rig.friend).unwrap();
    tls.client_auth_cert_resolver =
        Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(forged));
    let error = match within(Raw::new(tls).connect(rig.listener.local_addr())).await {
        Ok(connection) => within(connection.closed()).await,
        Err(error) => error,
    };
    assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "{error:?}");
    assert_eq!(rig.doorkeeper.asked(), 0);
}

async fn a_full_listener_says_that_it_is_busy(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions { max_connections: 1, ..ListenOptions::default() });
    let (first, _admitted) = within(rig.pair()).await;
    let error = within(rig.dial(&dial_options())).await.unwrap_err();
    assert!(matches!(error, LinkError::Busy { .. }), "{error:?}");
    assert_eq!(error.fault(), Fault::Transient);
    drop(first);
    // The place is free once the listener has heard of the end.
    let lane = within(async {
        loop {
            match rig.dial(&dial_options()).await {
                Err(LinkError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                other => return other,
            }
        }
    });
    lane.await.unwrap();
}

#[tokio::test]
async fn newcomers_prove_their_address_when_many_knock() {
    let rig = Rig::new(ListenOptions { validate_above: 0, ..ListenOptions::default() });
    // Everybody must prove it here, and whoever has done so is not asked again.
    let (dialed, _admitted) = within(rig.pair()).await;
    assert_eq!(dialed.peer(), &rig.host.public_key());
}

#[tokio::test]
async fn a_silent_handshake_is_given_up() {
    let silent = tokio::net::UdpSocket::bind(any_port()).await.unwrap();
    let options = DialOptions { deadline: Duration::from_millis(200), ..dial_options() };
    let me = Identity::generate().unwrap();
    let expected = Expect(me.public_key());
    let error = within(dial(&target(silent.local_addr().unwrap()), &me, &expected, &options))
        .await
        .unwrap_err();
    assert!(matches!(error, LinkError::NoAnswer { .. }), "{error:?}");
    assert_eq!(error.fault(), Fault::Transient);
    assert!(error.hint().unwrap().contains("firewall"));
}

/// Asks an `authorized_keys` text, at a fixed time.
struct Keys(AuthorizedKeys);

impl Gatekeeper for Keys {
    fn admit(&self, peer: &PublicKey, remote: SocketAddr) -> Result<Permissions, Denied> {
        self.0.check(peer, remote.ip(), "2026-07-01T00:00:00Z".parse().unwrap())
    }
}

async fn authorized_keys_decide_at_the_door(kind: LaneKind) {
    let (host, me) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    for (options, refusal) in [
        ("read-only,from=127.0.0.0/8 ", None),
        ("from=192.0.2.0/24 ", Some("may not be used from 127.0.0.1")),
        ("expires=2026-06-30 ", Some("has expired")),
        ("no-such-option ", Some("not understood")),
    ] {
        let keys = AuthorizedKeys::parse(&format!("{options}{}", me.public_key().to_line("me")));
        let listener =
            Listener::bind(any_port(), &host, Arc::new(Keys(keys)), ListenOptions::default())
                .unwrap();
        let target = target(listener.local_addr());
        let options_of_dial = DialOptions { kind, ..dial_options() };
        let expected = Expect(host.public_key());
        let lane = within(dial(&target, &me, &expected, &options_of_dial)).await.unwrap();
        match within(lane.welcomed()).await {
            Ok(()) => {
                assert_eq!(refusal, None, "{options}");
                let lane = within(listener.accept()).await.unwrap();
                assert!(!lane.permissions().unwrap().write);
            }
            Err(error) => {
                let expected = refusal.unwrap_or("nothing");
                assert!(error.to_string().contains(expected), "{options}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn shares_move_as_connections_come_and_go() {
    let mib = 1024 * 1024;
    let rig = Rig::new(ListenOptions { memory_budget: 16 * mib, ..ListenOptions::default() });
    let (dialed, first) = within(rig.pair()).await;
    assert_eq!(first.memory_share(), 16 * mib);
    let (other, second) = within(rig.pair()).await;
    assert_eq!((first.memory_share(), second.memory_share()), (8 * mib, 8 * mib));
    // Until the first peer's bytes were read, it still holds the credit that it once had.
    drop((other, second));
    let body = bytes::Bytes::from(vec![7; 1 << 20]);
    within(async {
        let sending = async {
            for order in 0..9 {
                dialed.send_parcel(bytes::Bytes::new(), body.clone(), order).await.unwrap();
            }
        };
        let reading = async {
            for _ in 0..9 {
                first.accept_parcel().await.unwrap().read(0, 1 << 20).await.unwrap();
            }
        };
        tokio::join!(sending, reading);
        while first.memory_share() != 16 * mib {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn closing_the_listener_tells_everybody(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions::default());
    let (dialed, _admitted) = within(rig.pair()).await;
    within(rig.listener.close("maintenance", PATIENCE)).await;
    let error = within(dialed.closed()).await;
    let LinkError::Closed { code, reason, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*code, reason.as_str()), (u64::from(close_code::GOING_AWAY), "maintenance"));
    assert_eq!(error.fault(), Fault::Transient);
    let error = within(async {
        loop {
            if let Err(error) = rig.listener.accept().await {
                return error;
            }
        }
    });
    assert!(matches!(error.await, LinkError::ListenerClosed { .. }));
}

/// The congestion window after so little that only the beginning shows in it.
async fn first_window(rig: &Rig, gives_way: bool) -> u64 {
    let (dialed, admitted) = within(rig.pair()).await;
    if gives_way {
        admitted.give_way();
    }
    let sending = admitted.send_parcel(vec![1].into(), vec![2; 1000].into(), 0);
    let reading = async { dialed.accept_parcel().await.unwrap().read(1, 1000).await.unwrap() };
    let (sent, read) = within(async { tokio::join!(sending, reading) }).await;
    assert!(sent.is_ok() && read.1 == [2; 1000]);
    let expected = if gives_way { Pace::Background } else { Pace::Fair };
    assert_eq!(admitted.stats().pace, Some(expected));
    admitted.stats().congestion_window
}

#[tokio::test]
async fn a_lane_over_quic_gives_way_when_it_is_told_to() {
    let rig = Rig::of(LaneKind::Quic, ListenOptions::default());
    let (fair, other) = (first_window(&rig, false).await, first_window(&rig, true).await);
    assert!(other < fair, "{other} is not below {fair}");
}

/// So do all of its connections, and it goes on.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_lane_over_tcp_gives_way_when_it_is_told_to() {
    let rig = Rig::of(LaneKind::Tcp, ListenOptions::default());
    let (dialed, admitted) = within(rig.pair()).await;
    assert_eq!(admitted.stats().pace, Some(Pace::Fair));
    admitted.give_way();
    assert_eq!(admitted.stats().pace, Some(Pace::Background));
    let sending = admitted.send_parcel(vec![1].into(), vec![2; 1000].into(), 0);
    let reading = async { dialed.accept_parcel().await.unwrap().read(1, 1000).await.unwrap() };
    let (sent, read) = within(async { tokio::join!(sending, reading) }).await;
    assert!(sent.is_ok() && read.1 == [2; 1000]);
    let sockets = admitted.tcp_sockets();
    assert!(sockets.len() >= 2, "for control and for data");
    for socket in sockets {
        let name = socket2::SockRef::from(&*socket).tcp_congestion().unwrap();
        let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
        assert!(["lp", "reno"].contains(&name.as_str()), "{name}");
    }
}
