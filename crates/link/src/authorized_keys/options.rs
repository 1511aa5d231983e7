//! The options before a key: how they are split, what each one means, and when they admit a peer.
//! Whatever is not written exactly as documented is an error, because a restriction that is misread
//! would open a door.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Denied, InboxRights, Inboxes, Permissions};
use crate::public_key::is_unprintable;

/// How many networks or paths one line may name.
const MAX_ITEMS: usize = 256;
/// What stands for every inbox.
const ALL_INBOXES: &str = "*";

/// The options of one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineOptions {
    paths: Vec<String>,
    read_only: bool,
    write_only: bool,
    max_rate_bytes_per_s: Option<u64>,
    expires: Option<Timestamp>,
    from: Option<Vec<Network>>,
    inboxes: Vec<String>,
    quota_bytes: Option<u64>,
    quota_datasets: Option<u64>,
}

impl LineOptions {
    /// Reads the comma-separated options; the text is empty where a line has none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        if text.is_empty() {
            return Ok(options);
        }
        for item in split_items(text)? {
            options.apply(&item)?;
        }
        if options.read_only && options.write_only {
            return Err("read-only and write-only exclude each other".to_owned());
        }
        if options.inboxes.len() > 1 && options.inboxes.iter().any(|name| name == ALL_INBOXES) {
            return Err("inbox=\"*\" stands beside the name of an inbox".to_owned());
        }
        Ok(options)
    }

    /// Whether a peer may come from `remote` at `now`.
    pub fn admit(&self, remote: IpAddr, now: Timestamp) -> Result<(), Denied> {
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(Denied::new("the authorization of this key has expired"));
        }
        // A v4 peer on a v6 socket shows as ::ffff:a.b.c.d and is still the v4 peer.
        let remote = remote.to_canonical();
        if self
            .from
            .as_ref()
            .is_some_and(|networks| !networks.iter().any(|network| network.contains(remote)))
        {
            return Err(Denied::new(format!("this key may not be used from {remote}")));
        }
        Ok(())
    }

    /// Whether they say into which inboxes a key may hand in.
    pub fn names_inboxes(&self) -> bool {
        !self.inboxes.is_empty()
    }

    /// What they let a key do; `comment` says whose it is.
    pub fn permissions(&self, comment: &str) -> Permissions {
        // Who is let in for an inbox may do nothing else, unless the line says where.
        let beside = self.inboxes.is_empty() || !self.paths.is_empty();
        Permissions {
            paths: self.paths.clone(),
            read: beside && !self.write_only,
            write: beside && !self.read_only,
            max_rate_bytes_per_s: self.max_rate_bytes_per_s,
            inboxes: self.inbox_rights(),
            comment: comment.to_owned(),
        }
    }

    fn inbox_rights(&self) -> InboxRights {
        let everywhere = self.inboxes.iter().any(|name| name == ALL_INBOXES);
        let inboxes = match self.inboxes.is_empty() {
            false if everywhere => Inboxes::All,
            false => Inboxes::Named(self.inboxes.clone()),
            // Who may write everything that is exported may also hand in; who is kept to paths may not.
            true if self.paths.is_empty() && !self.read_only => Inboxes::All,
            true => Inboxes::None,
        };
        let (quota_bytes, quota_datasets) = (self.quota_bytes, self.quota_datasets);
        InboxRights { inboxes, quota_bytes, quota_datasets }
    }

    fn apply(&mut self, item: &Item) -> Result<(), String> {
        let twice =
            |set: bool| if set { Err(format!("{} is written twice", item.name)) } else { Ok(()) };
        match (item.name.as_str(), item.value.as_deref()) {
            ("read-only", None) => self.read_only = true,
            ("write-only", None) => self.write_only = true,
            ("path", Some(value)) => {
                if self.paths.len() == MAX_ITEMS {
                    return Err(format!("more than {MAX_ITEMS} paths"));
                }
                self.paths.push(parse_path(value)?);
            }
            ("max-rate", Some(value)) => {
                twice(self.max_rate_bytes_per_s.is_some())?;
                self.max_rate_bytes_per_s = Some(parse_rate(value)?);
            }
            ("expires", Some(value)) => {
                twice(self.expires.is_some())?;
                self.expires = Some(parse_time(value)?);
            }
            ("from", Some(value)) => {
                twice(self.from.is_some())?;
                self.from = Some(parse_networks(value)?);
            }
            ("inbox", Some(value)) => {
                if self.inboxes.len() == MAX_ITEMS {
                    return Err(format!("more than {MAX_ITEMS} inboxes"));
                }
                self.inboxes.push(parse_inbox(value)?);
            }
            ("quota", Some(value)) => {
                twice(self.quota_bytes.is_some())?;
                self.quota_bytes = Some(parse_quota(value)?);
            }
            ("quota-datasets", Some(value)) => {
                twice(self.quota_datasets.is_some())?;
                let wrong = |_| "quota-datasets is not a whole number".to_owned();
                self.quota_datasets = Some(value.parse().map_err(wrong)?);
            }
            ("read-only" | "write-only", Some(_)) => {
                return Err(format!("{} takes no value", item.name));
            }
            (
                "path" | "max-rate" | "expires" | "from" | "inbox" | "quota" | "quota-datasets",
                None,
            ) => {
                return Err(format!("{} needs a value", item.name));
            }
            _ => return Err(format!("the option {} is not known", printable(&item.name))),
        }
        Ok(())
    }
}

/// One option as it is written: a name, and what stands after `=` with its quotes taken off.
struct Item {
    name: String,
    value: Option<String>,
}

/// Splits a line into its options and the rest, which begins with the key type. Blanks inside double
/// quotes do not end the options.
pub(super) fn split_from_key(line: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    let mut escaped = false;
    for (index, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                return Ok((&line[..index], line[index..].trim_start_matches([' ', '\t'])));
            }
            _ => {}
        }
    }
    Err(if quoted {
        "a quote is not closed".to_owned()
    } else {
        "the line holds no key".to_owned()
    })
}

fn split_items(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(['=', ',', '"']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return Err("an option has no name".to_owned());
        }
        let (value, after) = match after.strip_prefix('=') {
            Some(after) => {
                let (value, after) = split_value(after)?;
                (Some(value), after)
            }
            None => (None, after),
        };
        items.push(Item { name: name.to_owned(), value });
        if items.len() > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} options"));
        }
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(items),
            None => return Err("a comma was expected between options".to_owned()),
        }
    }
}

/// Reads a value, bare or in double quotes, where `\"` and `\\` stand for `"` and `\`.
fn split_value(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '"']).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[index + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => return Err("a backslash stands before what needs none".to_owned()),
            },
            _ => value.push(c),
        }
    }
    Err("a quote is not closed".to_owned())
}

/// A path of exports: parts between `/`, without empty ones, `.` or `..`.
fn parse_path(text: &str) -> Result<String, String> {
    let inner = text.strip_prefix('/').unwrap_or(text);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let wrong = |part: &str| matches!(part, "" | "." | "..");
    if inner.split('/').any(wrong) || text.chars().any(is_unprintable) {
        return Err(
            "the path is empty, or holds . or .. or an empty part or control characters".to_owned()
        );
    }
    Ok(inner.to_owned())
}

/// The name of an inbox, or `*` for all.
fn parse_inbox(text: &str) -> Result<String, String> {
    if text == ALL_INBOXES || is_inbox_name(text) {
        return Ok(text.to_owned());
    }
    Err("inbox is neither the name of an inbox (small letters, digits, - and _) nor *".to_owned())
}

/// Whether an inbox may be called so: 1 to 64 small letters, digits, `-` and `_`, beginning with a letter or digit.
pub fn is_inbox_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 64
        && text.bytes().next().is_some_and(is_plain)
        && text.bytes().all(|byte| is_plain(byte) || matches!(byte, b'-' | b'_'))
}

/// Bytes: a whole number, and `k`, `M`, `G` or `T` for thousands, then perhaps `B`.
fn parse_quota(text: &str) -> Result<u64, String> {
    let wrong = || "the quota is not written like 500G, 2T or 1000000".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "k" | "kB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// Bytes per second: a whole number, `k`, `M` or `G` for thousands, then perhaps `B` or `B/s`.
fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || "the rate is not written like 10MB, 500k or 1GB/s".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "B" | "B/s" => 1,
        "k" | "kB" | "kB/s" => 1_000,
        "M" | "MB" | "MB/s" => 1_000_000,
        "G" | "GB" | "GB/s" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(factor) {
        Some(0) => Err("the rate is zero, which would carry nothing".to_owned()),
        Some(rate) => Ok(rate),
        None => Err(wrong()),
    }
}

/// A day, which stands for its first moment in UTC, or a moment with its offset (RFC 3339).
fn parse_time(text: &str) -> Result<Timestamp, String> {
    let wrong = |_| "the time is neither like 2027-01-31 nor like 2027-01-31T12:00:00Z".to_owned();
    // Only these shapes; the parser underneath also takes others, which the format page does not promise.
    if text.len() == 10 {
        let date: Date = text.parse().map_err(wrong)?;
        return date.to_zoned(TimeZone::UTC).map(|moment| moment.timestamp()).map_err(wrong);
    }
    text.parse().map_err(wrong)
}

fn parse_networks(text: &str) -> Result<Vec<Network>, String> {
    let networks: Result<Vec<Network>, String> =
        text.split(',').take(MAX_ITEMS + 1).map(Network::parse).collect();
    let networks = networks?;
    if networks.len() > MAX_ITEMS {
        return Err(format!("more than {MAX_ITEMS} networks"));
    }
    Ok(networks)
}

/// An address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "from holds what is neither an address nor a network like 10.0.0.0/8".to_owned();
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        if bits > width {
            return Err(wrong());
        }
        let network = Self { address, bits };
        // 10.1.0.0/8 is more likely a slip for 10.1.0.0/16 than meant.
        if network.masked(address) != address {
            return Err("from holds a network with bits set behind its prefix".to_owned());
        }
        Ok(network)
    }

    fn contains(&self, other: IpAddr) -> bool {
        self.address.is_ipv4() == other.is_ipv4() && self.masked(other) == self.address
    }

    fn masked(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        }
    }
}

fn printable(text: &str) -> String {
    text.chars().take(40).map(|c| if is_unprintable(c) { '_' } else { c }).collect()
}
