//! What the two ends of a pipe say first: versions, one-time keys, and who they are. Pure; the format is in
//! `docs/formats/link.md`, "Through a pipe".

use std::net::IpAddr;

use crate::{Decoder, Encoder, Identity, PublicKey, WireError};

/// What every greeting begins with.
pub(crate) const MAGIC: &[u8; 8] = b"haulpipe";
/// The longest greeting.
pub(crate) const MOST_GREETING: usize = 1024;
/// What may come before the listener's greeting, from a shell that is talkative.
pub(crate) const MOST_NOISE: usize = 64 * 1024;

/// The version of what follows the greetings.
const VERSION: u64 = 1;
const MAX_SOFTWARE: usize = 64;
const MAX_ADDRESS: usize = 64;
const MAX_REASON: usize = 512;
const CONTEXT: &[u8] = b"haul one-time key\0";

/// A one-time key and who is known by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Introduction {
    pub(crate) one_time: PublicKey,
    pub(crate) identity: PublicKey,
    signature: [u8; 64],
}

/// Which end of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Dialer,
    Listener,
}

impl Introduction {
    pub(crate) fn new(end: End, one_time: &Identity, identity: &Identity) -> Self {
        let key = one_time.public_key();
        let signature = identity.sign(&signed(end, &key));
        Self { one_time: key, identity: identity.public_key(), signature }
    }

    fn encode(&self, out: &mut Encoder) {
        out.array(self.one_time.as_bytes()).array(self.identity.as_bytes()).array(&self.signature);
    }

    /// Reads an introduction, and refuses one that its identity has not signed.
    fn decode(input: &mut Decoder, end: End) -> Result<Self, WireError> {
        let read = Self {
            one_time: PublicKey(input.array("one-time key")?),
            identity: PublicKey(input.array("identity")?),
            signature: input.array("signature of the one-time key")?,
        };
        match read.identity.verify(&signed(end, &read.one_time), &read.signature) {
            true => Ok(read),
            false => Err(WireError::invalid("signature of the one-time key")),
        }
    }
}

fn signed(end: End, key: &PublicKey) -> Vec<u8> {
    let end = match end {
        End::Dialer => b'd',
        End::Listener => b'l',
    };
    [CONTEXT, &[end], key.as_bytes()].concat()
}

/// Which job a pipe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Job {
    /// The same for every run of the same command; zeros where runs are not in each other's way.
    pub command: [u8; 16],
    /// Another for every run.
    pub run: [u8; 16],
    /// The run has had a pipe before, which it has lost.
    pub again: bool,
}

/// The dialer's greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// Lowest and highest version.
    pub(crate) versions: (u64, u64),
    pub(crate) who: Introduction,
    pub(crate) software: String,
    pub(crate) job: Job,
    /// Where the listener is to listen, if that matters.
    pub(crate) ports: Option<(u16, u16)>,
}

/// The listener's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It does not serve.
    Refused { versions: (u64, u64), reason: String },
    /// It listens.
    Serves {
        who: Introduction,
        software: String,
        port: u16,
        /// The address that the pipe's program was reached at.
        address: Option<IpAddr>,
    },
}

impl Greeting {
    pub(crate) fn new(who: Introduction, job: Job, ports: Option<(u16, u16)>) -> Self {
        Self { versions: (VERSION, VERSION), who, software: software(), job, ports }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.varint(self.versions.0).varint(self.versions.1);
        self.who.encode(&mut out);
        let (first, last) = self.ports.unwrap_or_default();
        out.text(&self.software).array(&self.job.command).array(&self.job.run);
        out.boolean(self.job.again).varint(first.into()).varint(last.into());
        framed(out.finish())
    }

    /// Reads the message of the frame. Of a greeting in other versions nothing else is read, and there is none.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let mut input = Decoder::new(bytes);
        let versions = (input.varint("lowest version")?, input.varint("highest version")?);
        if !(versions.0..=versions.1).contains(&VERSION) {
            return Ok(None);
        }
        let who = Introduction::decode(&mut input, End::Dialer)?;
        let software = input.text("software", MAX_SOFTWARE)?.to_owned();
        let job = Job {
            command: input.array("job")?,
            run: input.array("run")?,
            again: input.boolean("whether the run goes on")?,
        };
        let first = port(&mut input, "first port")?;
        let last = port(&mut input, "last port")?;
        if first > last || (first == 0) != (last == 0) {
            return Err(WireError::invalid("ports"));
        }
        input.finish()?;
        let ports = (first != 0).then_some((first, last));
        Ok(Some(Self { versions, who, software, job, ports }))
    }
}

impl Answer {
    pub(crate) fn refused(reason: &str) -> Self {
        let reason = reason[..reason.floor_char_boundary(MAX_REASON)].to_owned();
        Self::Refused { versions: (VERSION, VERSION), reason }
    }

    pub(crate) fn serves(who: Introduction, port: u16, address: Option<IpAddr>) -> Self {
        Self::Serves { who, software: software(), port, address }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::Refused { versions, reason } => {
                out.u8(0).varint(versions.0).varint(versions.1).text(reason);
            }
            Self::Serves { who, software, port, address } => {
                out.u8(1).varint(VERSION);
                who.encode(&mut out);
                let address = address.map(|address| address.to_string()).unwrap_or_default();
                out.text(software).varint((*port).into()).text(&address);
            }
        }
        framed(out.finish())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Decoder::new(bytes);
        let answer = match input.u8("kind of answer")? {
            0 => Self::Refused {
                versions: (input.varint("lowest version")?, input.varint("highest version")?),
                reason: input.text("reason", MAX_REASON)?.to_owned(),
            },
            1 => {
                if input.varint("version")? != VERSION {
                    return Err(WireError::invalid("version"));
                }
                let who = Introduction::decode(&mut input, End::Listener)?;
                let software = input.text("software", MAX_SOFTWARE)?.to_owned();
                let port = port(&mut input, "port")?;
                if port == 0 {
                    return Err(WireError::invalid("port"));
                }
                let address = match input.text("address", MAX_ADDRESS)? {
                    "" => None,
                    text => Some(text.parse().map_err(|_| WireError::invalid("address"))?),
                };
                Self::Serves { who, software, port, address }
            }
            _ => return Err(WireError::invalid("kind of answer")),
        };
        input.finish()?;
        Ok(answer)
    }
}

fn port(input: &mut Decoder, field: &'static str) -> Result<u16, WireError> {
    Ok(input.varint_at_most(field, u16::MAX.into())? as u16)
}

fn framed(message: Vec<u8>) -> Vec<u8> {
    // Each part is capped far below.
    let length = message.len() as u16;
    [MAGIC.as_slice(), &length.to_be_bytes(), &message].concat()
}

fn software() -> String {
    concat!("haul ", env!("CARGO_PKG_VERSION")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduced(end: End) -> Introduction {
        let [one_time, identity] = [(); 2].map(|()| Identity::generate().unwrap());
        Introduction::new(end, &one_time, &identity)
    }

    /// The message within its frame.
    fn inside(framed: &[u8]) -> &[u8] {
        let (magic, rest) = framed.split_first_chunk::<8>().unwrap();
        let (length, message) = rest.split_first_chunk::<2>().unwrap();
        assert_eq!((magic, usize::from(u16::from_be_bytes(*length))), (MAGIC, message.len()));
        assert!(message.len() <= MOST_GREETING);
        message
    }

    #[test]
    fn greetings_are_read_as_written() {
        for ports in [None, Some((60_000, 60_010))] {
            let greeting = Greeting::new(
                introduced(End::Dialer),
                Job { run: [7; 16], again: true, ..Job::default() },
                ports,
            );
            assert_eq!(Greeting::decode(inside(&greeting.encode())).unwrap().unwrap(), greeting);
        }
        for address in [None, Some("::1".parse().unwrap()), Some("10.0.0.1".parse().unwrap())] {
            let answer = Answer::serves(introduced(End::Listener), 4285, address);
            assert_eq!(Answer::decode(inside(&answer.encode())).unwrap(), answer);
        }
        let refused = Answer::refused(&"ü".repeat(400));
        assert_eq!(Answer::decode(inside(&refused.encode())).unwrap(), refused);
    }

    #[test]
    fn an_identity_must_have_signed_the_key_for_its_end() {
        let mut greeting = Greeting::new(
            introduced(End::Listener),
            Job { run: [7; 16], again: true, ..Job::default() },
            None,
        );
        assert!(Greeting::decode(inside(&greeting.encode())).is_err(), "signed for the other end");
        greeting.who =
            Introduction { one_time: introduced(End::Dialer).one_time, ..introduced(End::Dialer) };
        assert!(Greeting::decode(inside(&greeting.encode())).is_err(), "another key was signed");
    }

    #[test]
    fn later_versions_may_say_it_otherwise() {
        let mut out = Encoder::new();
        out.varint(VERSION + 1).varint(VERSION + 2).text("whatever");
        assert_eq!(Greeting::decode(&out.finish()).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let greeting = Greeting::new(
            introduced(End::Dialer),
            Job { run: [7; 16], again: true, ..Job::default() },
            Some((2, 1)),
        );
        assert!(Greeting::decode(inside(&greeting.encode())).is_err(), "ports backwards");
        let answer = Answer::serves(introduced(End::Listener), 0, None);
        assert!(Answer::decode(inside(&answer.encode())).is_err(), "no port");
        let answer = Answer::serves(introduced(End::Listener), 1, None);
        let bytes = inside(&answer.encode()).to_vec();
        for length in 0..bytes.len() {
            assert!(Answer::decode(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
        assert!(Answer::decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "goes on");
    }
}
