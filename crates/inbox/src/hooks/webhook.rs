//! Posting to a webhook: one connection, one request, one answer, within one deadline. No redirect is followed, no proxy
//! of the environment is used, and of the answer's body only the beginning is read.

mod trust;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Job;
use super::address::Address;
use super::tail::KEPT;
use super::value::{self, causes};
use super::verdict::{Ended, Ran, redacted};
use crate::options::Webhook;

/// An answer whose head is longer is none.
const MAX_HEAD: usize = 64 * 1024;

/// The header by which a receiver tells a repeated call from a new one.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// How far an exchange has come, for words about one that took too long.
const STAGES: [&str; 4] = [
    "there was no connection",
    "there was a connection, but no TLS",
    "there was a connection, but no answer",
    "an answer had begun, but did not end",
];

/// Posts, and reads the answer.
pub(super) async fn post(job: &Job<'_>, webhook: &Webhook) -> Ran {
    let address = match Address::parse(&webhook.address) {
        Ok(address) => address,
        Err(why) => return Ran::failed(why),
    };
    let stage = AtomicUsize::new(0);
    let exchange = async {
        let prepared = prepared(job, webhook, &address).await?;
        let secrets = prepared.secrets.clone();
        let ran = exchange(&address, prepared, &stage).await?;
        let output = redacted(ran.output, &secrets);
        Ok::<_, String>(Ran { output, said: redacted(ran.said, &secrets), ..ran })
    };
    match timeout(job.hook.timeout, exchange).await {
        Ok(Ok(ran)) => ran,
        Ok(Err(reason)) => Ran::failed(reason),
        Err(_) => {
            let ended = Ended::TimedOut(STAGES[stage.load(Ordering::Relaxed)]);
            Ran { ended, output: Vec::new(), said: Vec::new() }
        }
    }
}

/// What is wrong with the name of a header, if anything is.
pub(super) fn check_header(name: &str) -> Result<(), &'static str> {
    const OURS: [&str; 7] = [
        "host",
        "connection",
        "content-type",
        "content-length",
        "transfer-encoding",
        "user-agent",
        IDEMPOTENCY_KEY,
    ];
    let name: HeaderName = name.parse().map_err(|_| "it is no name of a header")?;
    match OURS.contains(&name.as_str()) {
        true => Err("haul sets this header itself"),
        false => Ok(()),
    }
}

/// What has to be read from the disk before anything is sent.
struct Prepared {
    request: Request<String>,
    tls: Option<Arc<ClientConfig>>,
    secrets: Vec<Vec<u8>>,
}

async fn prepared(job: &Job<'_>, webhook: &Webhook, address: &Address) -> Result<Prepared, String> {
    let mut request = Request::new(job.body.to_owned());
    *request.method_mut() = Method::POST;
    *request.uri_mut() =
        address.target.parse().map_err(|_| "its path cannot be sent".to_owned())?;
    let own = [
        (HOST, address.authority.clone()),
        (CONNECTION, "close".to_owned()),
        (CONTENT_TYPE, "application/json".to_owned()),
        (USER_AGENT, concat!("haul/", env!("CARGO_PKG_VERSION")).to_owned()),
    ];
    for (name, value) in own {
        request.headers_mut().insert(name, header_value(value.into_bytes(), false)?);
    }
    if job.dataset.is_some() {
        let key = header_value(job.key().into_bytes(), false)?;
        request.headers_mut().insert(HeaderName::from_static(IDEMPOTENCY_KEY), key);
    }
    let (webhook, is_tls) = (webhook.clone(), address.is_tls);
    let read = move || {
        let mut secrets = Vec::new();
        let headers = headers(&webhook, &mut secrets)?;
        let tls = if is_tls { Some(trust::config(webhook.authorities.as_deref())?) } else { None };
        Ok::<_, String>((headers, tls, secrets))
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(|error| causes(&error))?;
    let (headers, tls, secrets) = read?;
    request.headers_mut().extend(headers);
    Ok(Prepared { request, tls, secrets })
}

/// The headers that the operator wants; values that are secrets are noted.
fn headers(webhook: &Webhook, secrets: &mut Vec<Vec<u8>>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        check_header(name)?;
        let name: HeaderName = name.parse().map_err(|_| "it is no name of a header".to_owned())?;
        let (value, is_secret) = value::read(value)?;
        if is_secret {
            secrets.push(value.clone());
        }
        headers.append(name, header_value(value, is_secret)?);
    }
    if let Some(path) = &webhook.token {
        let token = value::secret(path)?;
        let value = header_value([b"Bearer ", &token[..]].concat(), true)?;
        headers.insert(AUTHORIZATION, value);
        secrets.push(token);
    }
    Ok(headers)
}

fn header_value(bytes: Vec<u8>, is_secret: bool) -> Result<HeaderValue, String> {
    let wrong = |_| "a header's value holds a newline or another control character".to_owned();
    let mut value =
        HeaderValue::from_maybe_shared(hyper::body::Bytes::from(bytes)).map_err(wrong)?;
    value.set_sensitive(is_secret);
    Ok(value)
}

async fn exchange(
    address: &Address,
    prepared: Prepared,
    stage: &AtomicUsize,
) -> Result<Ran, String> {
    let shown = |error: &dyn std::error::Error| format!("{address}: {}", causes(error));
    let stream = TcpStream::connect((&address.host[..], address.port));
    let stream = stream.await.map_err(|error| shown(&error))?;
    let Some(tls) = prepared.tls else {
        stage.store(2, Ordering::Relaxed);
        return talk(stream, prepared.request, stage).await.map_err(|error| shown(&error));
    };
    stage.store(1, Ordering::Relaxed);
    let name = ServerName::try_from(address.host.clone()).map_err(|error| shown(&error))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    let stream = stream.map_err(|error| shown(&error))?;
    stage.store(2, Ordering::Relaxed);
    talk(stream, prepared.request, stage).await.map_err(|error| shown(&error))
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<String>,
    stage: &AtomicUsize,
) -> Result<Ran, hyper::Error> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // It moves the bytes of the connection, and ends with this call.
    let mut task = JoinSet::new();
    task.spawn(connection);
    let response = sender.send_request(request).await?;
    stage.store(3, Ordering::Relaxed);
    answer(response).await
}

async fn answer(response: Response<Incoming>) -> Result<Ran, hyper::Error> {
    let (head, mut body) = response.into_parts();
    let mut said = Vec::new();
    while said.len() < KEPT {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let Some(frame) = frame else { break };
        if let Ok(data) = frame?.into_data() {
            let room = KEPT - said.len();
            said.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    let mut output = format!("{}\n", head.status).into_bytes();
    if let Some(place) = head.headers.get(LOCATION).filter(|_| head.status.is_redirection()) {
        output.extend_from_slice(b"location: ");
        let place = place.as_bytes();
        output.extend_from_slice(&place[..place.len().min(1_024)]);
        output.push(b'\n');
    }
    output.extend_from_slice(&said);
    Ok(Ran { ended: Ended::Answered(head.status.as_u16()), output, said })
}

#[cfg(test)]
mod tests;
