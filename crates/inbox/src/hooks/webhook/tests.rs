use std::io::{Read as _, Write as _};
use std::net::TcpStream as StdStream;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::rig::{Scratch, Server, posts, run};
use super::*;
use crate::options::{HookOptions, HookValue};

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

async fn post(webhook: Webhook) -> Ran {
    run(&posts("index", webhook), Path::new("/"), "{\"id\":\"0id\"}").await
}

async fn post_briefly(webhook: Webhook) -> Ran {
    let hook = HookOptions { timeout: Duration::from_millis(300), ..posts("index", webhook) };
    run(&hook, Path::new("/"), "{}").await
}

#[tokio::test]
async fn the_object_is_posted_with_what_a_receiver_needs() {
    let scratch = Scratch::new();
    let server = Server::saying(FINE);
    let headers = vec![
        ("X-Room".to_owned(), HookValue::Plain("7".to_owned())),
        ("X-Key".to_owned(), HookValue::File(scratch.write("key", "k3y value\n"))),
    ];
    let token = Some(scratch.write("token", "t0ken\r\n"));
    let ran = post(Webhook { headers, token, ..server.webhook() }).await;
    assert_eq!((ran.ended, &ran.output[..]), (Ended::Answered(200), &b"200 OK\nok\n"[..]));
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{\"id\":\"0id\"}");
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /path?query HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    let agent = format!("user-agent: haul/{}", env!("CARGO_PKG_VERSION"));
    let mut expected = [
        "authorization: Bearer t0ken",
        "connection: close",
        "content-length: 12",
        "content-type: application/json",
        &host,
        "idempotency-key: 0id-published-index",
        &agent,
        "x-key: k3y value",
        "x-room: 7",
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn every_answer_is_told_with_its_status() {
    let check = async |answer: &'static str, status: u16, output: &str| {
        let server = Server::saying(answer);
        let ran = post(server.webhook()).await;
        assert_eq!(ran.ended, Ended::Answered(status), "{answer}");
        assert_eq!(String::from_utf8(ran.output).unwrap(), output);
        assert_eq!(server.requests().len(), 1, "asked again, or elsewhere");
    };
    check("HTTP/1.1 204 No Content\r\n\r\n", 204, "204 No Content\n").await;
    check("HTTP/1.0 200 OK\r\n\r\nto the end", 200, "200 OK\nto the end").await;
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        200,
        "200 OK\nabc",
    )
    .await;
    check(
        "HTTP/1.1 422 No\r\nContent-Length: 4\r\n\r\nbad\n",
        422,
        "422 Unprocessable Entity\nbad\n",
    )
    .await;
    check("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503, "503 Service Unavailable\n").await;
    check(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        200,
        "200 OK\n",
    )
    .await;
}

#[tokio::test]
async fn no_redirect_is_followed() {
    static ELSEWHERE: AtomicU64 = AtomicU64::new(0);
    let elsewhere = Server::new(|stream| {
        ELSEWHERE.fetch_add(1, Ordering::SeqCst);
        let _ = stream.write_all(FINE.as_bytes());
    });
    let place = elsewhere.address;
    for status in [301, 302, 303, 307, 308] {
        let server = Server::new(move |stream| {
            let head = format!("HTTP/1.1 {status} Go\r\nLocation: http://{place}/x\r\n");
            let _ = stream.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes());
        });
        let ran = post(server.webhook()).await;
        assert_eq!(ran.ended, Ended::Answered(status));
        assert!(!ran.is_done() && ran.words().contains("leads elsewhere"), "{}", ran.words());
        let output = String::from_utf8(ran.output).unwrap();
        assert!(output.contains(&format!("location: http://{place}/x\n")), "{output}");
    }
    assert_eq!(ELSEWHERE.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_server_that_takes_its_time_gets_no_more_than_there_is() {
    let check = async |script: fn(&mut StdStream), expected: usize| {
        let server = Server::new(script);
        let ran = post_briefly(server.webhook()).await;
        assert_eq!(ran.ended, Ended::TimedOut(STAGES[expected]));
    };
    // It waits for the client to go.
    let hangs: fn(&mut StdStream) = |stream| drop(stream.read(&mut [0]));
    check(hangs, 2).await;
    check(
        |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        },
        2,
    )
    .await;
    check(
        |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n");
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        },
        3,
    )
    .await;
    // One that speaks no TLS, and says nothing else either.
    let server = Server::new(hangs);
    let tls = Webhook { address: format!("https://{}/", server.address), ..Webhook::default() };
    assert_eq!(post_briefly(tls).await.ended, Ended::TimedOut(STAGES[1]));
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let server = Server::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 500 Oh\r\n\r\n");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    let ran = post(server.webhook()).await;
    assert_eq!(ran.ended, Ended::Answered(500));
    assert_eq!(ran.said.len(), KEPT);
}

#[tokio::test]
async fn what_is_no_answer_fails_with_words() {
    let check = async |script: fn(&mut StdStream)| {
        let server = Server::new(script);
        let ran = post(server.webhook()).await;
        let Ended::Failed(reason) = ran.ended else { panic!("{:?}", ran.ended) };
        assert!(reason.starts_with(&format!("http://{}: ", server.address)), "{reason}");
        assert!(!reason.contains("/path"), "{reason}");
    };
    check(|_| {}).await;
    check(|stream| drop(stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n"))).await;
    check(|stream| drop(stream.write_all(b"HTTP/1.1 200"))).await;
    check(|stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")))
        .await;
    check(|stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"))).await;
    check(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    })
    .await;
    check(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"A: b\r\n").is_ok() {}
    })
    .await;
    let gone = Server::saying(FINE).webhook();
    let Ended::Failed(reason) = post(gone).await.ended else { panic!("somebody is there") };
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn secrets_are_neither_kept_nor_told() {
    let scratch = Scratch::new();
    let token = scratch.write("token", "t0ken-value");
    let server =
        Server::saying("HTTP/1.1 401 No\r\nContent-Length: 27\r\n\r\nBearer t0ken-value is wrong");
    let ran = post(Webhook { token: Some(token.clone()), ..server.webhook() }).await;
    assert_eq!(ran.said, b"Bearer (secret) is wrong");
    assert!(ran.output.ends_with(b"Bearer (secret) is wrong"));

    std::fs::write(&token, "two\nt0ken-lines").unwrap();
    let ran = post(Webhook { token: Some(token.clone()), ..server.webhook() }).await;
    assert!(ran.words().contains("newline") && !ran.words().contains("t0ken"), "{}", ran.words());
    std::fs::write(&token, "\n").unwrap();
    let ran = post(Webhook { token: Some(token), ..server.webhook() }).await;
    assert!(ran.words().contains("is empty"), "{}", ran.words());
    let missing = Some("/no/such/token".into());
    let ran = post(Webhook { token: missing, ..server.webhook() }).await;
    assert!(ran.words().contains("/no/such/token"), "{}", ran.words());
    assert_eq!(server.requests().len(), 1, "a call went out without its token");
}

/// A server behind TLS, with a certificate for `localhost` and `127.0.0.1` of the tests' own authority.
fn tls_server(versions: &[&'static rustls::SupportedProtocolVersion]) -> Server {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tests/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tests/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    Server::raw(move |stream| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let mut request = [0; 4_096];
        let mut seen = Vec::new();
        while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut request) {
                Ok(len) if len > 0 => seen.extend_from_slice(&request[..len]),
                _ => return,
            }
        }
        let _ = stream.write_all(FINE.as_bytes());
        stream.conn.send_close_notify();
        let _ = stream.flush();
    })
}

#[tokio::test]
async fn https_trusts_whom_the_operator_names_and_nobody_else() {
    let scratch = Scratch::new();
    let authority = scratch.write("authority.pem", include_bytes!("tests/authority.pem"));
    for versions in [[&rustls::version::TLS13], [&rustls::version::TLS12]] {
        let server = tls_server(&versions);
        let port = server.address.port();
        let at = |host: &str, authorities: Option<&Path>| Webhook {
            address: format!("https://{host}:{port}/"),
            authorities: authorities.map(Path::to_owned),
            ..Webhook::default()
        };
        for host in ["localhost", "127.0.0.1"] {
            let ran = post(at(host, Some(&authority))).await;
            assert_eq!(ran.ended, Ended::Answered(200), "{host}");
        }
        // This machine's authorities have not signed it.
        let Ended::Failed(reason) = post(at("127.0.0.1", None)).await.ended else {
            panic!("anybody is trusted")
        };
        assert!(reason.contains("certificate") || reason.contains("trusts no"), "{reason}");
    }
    // The certificate is for other names than this one, which leads to the same server.
    let server = tls_server(&[&rustls::version::TLS13]);
    let ran = post(Webhook {
        address: format!("https://127.0.0.2:{}/", server.address.port()),
        authorities: Some(authority),
        ..Webhook::default()
    })
    .await;
    assert!(!ran.is_done(), "{}", ran.words());
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none_is_told() {
    let scratch = Scratch::new();
    let check = async |text: &str, expected: &str| {
        let authorities = Some(scratch.write("authority.pem", text));
        let address = "https://127.0.0.1:1/".to_owned();
        let ran = post(Webhook { address, authorities, ..Webhook::default() }).await;
        assert!(ran.words().contains(expected), "{}", ran.words());
    };
    check("", "holds no certificate").await;
    check("nothing of the kind", "holds no certificate").await;
    check("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "authority.pem").await;
}
