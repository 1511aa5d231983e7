//! The command line of `haul diode`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::Rules;
use crate::units;

/// Send a tree and streams across a link with no way back, or receive them.
#[derive(Debug, clap::Args)]
#[command(after_help = DIODE_AFTER)]
pub struct DiodeArguments {
    /// Which diode, if this machine has several: each name has a memory and a list of keys of its own.
    #[arg(long, global = true, value_name = "NAME", default_value = "main", value_parser = parse_name)]
    pub name: String,
    /// What to do.
    #[command(subcommand)]
    pub command: DiodeCommand,
}

impl DiodeArguments {
    /// Whether errors are to be told on standard output too.
    pub fn wants_json(&self) -> bool {
        match &self.command {
            DiodeCommand::Send(send) => send.telling.json,
            DiodeCommand::Recv(recv) => recv.telling.json,
            DiodeCommand::Rehearse(rehearse) => rehearse.telling.json,
            DiodeCommand::Status { json, .. } => *json,
            _ => false,
        }
    }
}

const DIODE_AFTER: &str = "\
Once, by hand, both ways:
  haul diode key show                        on each machine: prints its line
  haul diode key trust 'haul-diode-1 AAAA… name'   on the other one

Before the first start, to learn which --rate, --repair and --outage suit the link:
  haul diode rehearse --from udp://0.0.0.0:4286       behind the diode
  haul diode rehearse --to udp://10.1.0.2:4286        before it

Then:
  haul diode recv --from udp://0.0.0.0:4286 --into /srv/copy      behind the diode
  haul diode send /srv/data --to udp://10.1.0.2:4286 --rate 500mbit   before it

What is missing is told behind the diode, carried back by hand, and sent again:
  haul diode want --out list.txt
  haul diode resend list.txt";

/// The commands. What `--help` says of each stands with its arguments.
#[derive(Debug, Subcommand)]
pub enum DiodeCommand {
    #[command(subcommand)]
    Key(DiodeKeyCommand),
    Send(Box<SendArguments>),
    Recv(Box<RecvArguments>),
    Rehearse(Box<RehearseArguments>),
    /// Behind the diode: list what is missing, to be carried back by hand.
    Want {
        /// Write the list here; otherwise to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    Resend(ResendArguments),
    /// Before the diode: change the rate of the sender that runs.
    Rate {
        /// Bytes per second such as 50MB, or bits such as 500mbit.
        #[arg(value_name = "RATE", value_parser = units::parse_rate)]
        rate: u64,
    },
    /// What is known, counted, missing and quarantined, on either side.
    Status {
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
        /// What went on for so long, such as 1h or 7d, a line for every ten seconds; also of a sender or receiver
        /// that does not run any more.
        #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
        history: Option<Duration>,
    },
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Behind the diode: let a generation remove what the brake holds.
    Release,
}

/// Show this machine's line for the other side of the diode; decide whom it trusts.
#[derive(Debug, Subcommand)]
pub enum DiodeKeyCommand {
    /// Print this machine's line, to be carried to the other side by hand.
    Show {
        /// Begin a new line of sessions: for receivers that lost their memory, and with it their key.
        /// All receivers must be told the new line.
        #[arg(long)]
        renew: bool,
        /// Print the fingerprint of the line instead: what `key trust` must say on the other side.
        #[arg(long)]
        fingerprint: bool,
    },
    /// Trust the machine on the other side; a sender or receiver that runs must be started again.
    Trust {
        /// What `haul diode key show` prints there; - reads it from standard input.
        #[arg(required = true, num_args = 1.., value_name = "LINE")]
        line: Vec<String>,
    },
    /// List the machines that are trusted.
    List,
    /// Trust a machine no longer; a sender or receiver that runs must be started again.
    Revoke {
        /// Its fingerprint or name.
        which: String,
    },
}

/// Before the diode: send a tree, its changes, and streams.
///
/// The tree is watched; changes go out within seconds, and the whole tree is looked at again and again, so
/// that nothing is missed. Files that are still being written wait. Nobody answers: --repeat sends each
/// file more often, and `haul diode resend` sends what a receiver lacks.
#[derive(Debug, clap::Args)]
#[command(after_help = SEND_AFTER)]
pub struct SendArguments {
    /// The tree. Without one only streams are sent.
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where to: udp://HOST:PORT, or tcp://HOST:PORT for an appliance that takes a stream of bytes.
    #[arg(long, value_name = "URL")]
    pub to: diode::Address,
    /// So much goes out at most: bytes per second such as 50MB, or bits such as 500mbit. Nobody tells when
    /// it is too much, but the other side counts what it loses: `haul diode status` there.
    #[arg(long, value_name = "RATE", default_value = "100mbit", value_parser = units::parse_rate)]
    pub rate: u64,
    /// Send once all there is, and end.
    #[arg(long)]
    pub once: bool,
    /// Each file goes out so often in all, at growing intervals; what is new goes first.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: u32,
    /// The whole tree is looked at so often, besides the watch.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = units::parse_duration)]
    pub every: Duration,
    /// Do not watch the tree; look at it with --every only.
    #[arg(long)]
    pub no_watch: bool,
    /// The whole tree is told anew so often, for receivers that lost something or came late.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = units::parse_duration)]
    pub full_every: Duration,
    /// Files that changed less than this ago wait.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::parse_duration)]
    pub settle: Duration,
    /// Also send *.part, *.tmp and other names that programs give unfinished files.
    #[arg(long)]
    pub unfinished: bool,
    /// Which files to leave out, and which to take all the same.
    #[command(flatten)]
    pub rules: Rules,
    /// Carry user and group numbers; the receiver sets them with --owner too.
    #[arg(long)]
    pub owner: bool,
    /// Carry extended attributes of the user.* kind.
    #[arg(long)]
    pub xattrs: bool,

    /// Bytes of a packet, with its headers: 9000 where the link has jumbo frames.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(576..=65_535))]
    pub packet: u32,
    /// Packets for repair, in percent of those with data. Of what is large there are at most about 17 in 100 with
    /// packets of 1500 bytes, and 27 with 9000; beyond that use --repeat.
    #[arg(long, value_name = "PERCENT", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repair: u32,
    /// An outage of this length costs nothing; memory at both ends grows with it and the rate.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = units::parse_duration)]
    pub outage: Duration,
    /// Keep the link full at its rate, with packets of one size that mean nothing where there is no data.
    #[arg(long)]
    pub filler: bool,

    /// For measurements only: what is sent is neither encrypted nor authenticated. Receivers refuse it but for
    /// those that are given the same option.
    #[arg(long)]
    pub insecure_plain: bool,

    /// A stream: NAME=tcp://ADDR:PORT listens there, NAME=udp://ADDR:PORT takes datagrams. Can be repeated.
    #[arg(long = "channel", value_name = "NAME=URL")]
    pub channels: Vec<String>,

    /// How to tell what happens.
    #[command(flatten)]
    pub telling: TellingArguments,
}

const SEND_AFTER: &str = "\
Examples:
  haul diode send /srv/data --to udp://10.1.0.2:4286 --rate 800mbit
  haul diode send /srv/data --to tcp://appliance:9876 --rate 600mbit --repeat 3
  haul diode send --to udp://10.1.0.2:4286 --channel syslog=udp://127.0.0.1:514

Exit codes: 0 all was sent once, or stopped by a signal; 2 the command cannot work as given; 3 a key is
in the way; 5 disk.";

/// What both sides tell.
#[derive(Debug, clap::Args)]
pub struct TellingArguments {
    /// Run this program at each event, without arguments; it gets one JSON object on standard input, and is
    /// ended after 60 s. At most 1000 events wait for it.
    #[arg(long, value_name = "PROGRAM")]
    pub on_event: Option<PathBuf>,
    /// One JSON object per event on standard output.
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Errors only.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Behind the diode: receive a tree and streams.
///
/// Nothing is ever sent back. A file gets its name when all of it is there and verified; the version
/// before stays until then. What the sender removes goes to a quarantine first.
#[derive(Debug, clap::Args)]
#[command(after_help = RECV_AFTER)]
pub struct RecvArguments {
    /// Where from: udp://ADDR:PORT, tcp://HOST:PORT, or tcp-listen://ADDR:PORT.
    #[arg(long, value_name = "URL")]
    pub from: diode::Address,
    /// Where the tree goes.
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// What becomes of what the sender removes: now, after=TIME in a quarantine from which it can be
    /// restored, or never.
    #[arg(long, value_name = "WHEN", default_value = "after=7d", value_parser = parse_deletes)]
    pub deletes: diode::Deletes,
    /// A generation that removes more than this share of the tree, and more than 100 entries, waits for
    /// `haul diode release`.
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub brake: u32,
    /// The receive buffer that is asked for.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = units::parse_bytes)]
    pub receive_buffer: u64,
    /// Blocks on their way, and what waits for the disk, may take so much memory at most. What is on its way is
    /// what the sender's rate brings in 0.57 s with its usual outage and repair: 72 MB at 1 Gbit/s. What does not
    /// fit waits on disk, which is slow.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = units::parse_bytes)]
    pub memory: u64,
    /// Files are on the disk before they count as there. Without it they survive a kill of the program, and may
    /// be empty or old after a power cut.
    #[arg(long)]
    pub fsync: bool,
    /// Set the user and group numbers that the sender tells with --owner, which needs root.
    #[arg(long)]
    pub owner: bool,
    /// Keep set-user, set-group and sticky bits.
    #[arg(long)]
    pub setid: bool,
    /// For measurements only: also take what is neither encrypted nor authenticated. Files are still held
    /// against their signed manifests; streams are anybody's.
    #[arg(long)]
    pub insecure_plain: bool,
    /// A stream: NAME=tcp://HOST:PORT connects there, NAME=tcp-listen://ADDR:PORT listens, and
    /// NAME=udp://HOST:PORT sends datagrams on. With ,resume behind it a TCP stream goes on behind a gap, over
    /// a new connection; with ,ttl=N multicast datagrams pass N routers. Can be repeated.
    #[arg(long = "channel", value_name = "NAME=URL[,resume][,ttl=N]")]
    pub channels: Vec<String>,
    /// How to tell what happens.
    #[command(flatten)]
    pub telling: TellingArguments,
}

const RECV_AFTER: &str = "\
Examples:
  haul diode recv --from udp://0.0.0.0:4286 --into /srv/copy
  haul diode recv --from tcp://appliance:9876 --into /srv/copy --deletes after=30d

Exit codes: 0 stopped by a signal; 2 the command cannot work as given; 3 a key is in the way; 5 disk.";

/// Both sides: find the rate, the repair and the outage that this link carries.
///
/// The side before the diode sends packets that mean nothing, at one rate after the other, each higher than
/// the one before. The side behind it counts what arrives, prints a line for each rate, and says with which
/// options to send, and why. It sends nothing back. Keys must have been exchanged; neither a sender nor a
/// receiver of the same --name may run meanwhile, and no file of either is touched.
#[derive(Debug, clap::Args)]
#[command(
    after_help = REHEARSE_AFTER,
    group = clap::ArgGroup::new("side").required(true).args(["to", "from"])
)]
pub struct RehearseArguments {
    /// Before the diode: where to, as for `haul diode send`.
    #[arg(long, value_name = "URL")]
    pub to: Option<diode::Address>,
    /// Behind the diode: where from, as for `haul diode recv`.
    #[arg(long, value_name = "URL")]
    pub from: Option<diode::Address>,

    /// With --to: the highest rate that is tried.
    #[arg(long, value_name = "RATE", default_value = "1gbit", value_parser = units::parse_rate, conflicts_with = "from")]
    pub most: u64,
    /// With --to: the lowest; without it, a sixteenth of the highest.
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate, conflicts_with = "from")]
    pub least: Option<u64>,
    /// With --to: how many rates are tried, from the lowest to the highest by equal factors.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=64), conflicts_with = "from")]
    pub steps: u16,
    /// With --to: how long each is tried. What happens seldom is seen only in a long time.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::parse_duration, conflicts_with = "from")]
    pub each: Duration,
    /// With --to: bytes of a packet, with its headers: 9000 where the link has jumbo frames.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(576..=65_535), conflicts_with = "from")]
    pub packet: u32,

    /// With --from: the receive buffer that is asked for.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = units::parse_bytes, conflicts_with = "to")]
    pub receive_buffer: u64,

    /// How to tell what happens.
    #[command(flatten)]
    pub telling: TellingArguments,
}

const REHEARSE_AFTER: &str = "\
Examples:
  haul diode rehearse --from udp://0.0.0.0:4286     behind the diode; it waits for the other side
  haul diode rehearse --to udp://10.1.0.2:4286      before it: nine rates up to 1 Gbit/s, 5 s each
  haul diode rehearse --to udp://10.1.0.2:4286 --least 500mbit --most 700mbit --each 1m

Behind the diode it ends by itself when the other side has said that it is done, or was not heard
for ten seconds; Ctrl-C prints what is known so far.

Exit codes: 0 all was sent, or a rate is recommended; 1 no rate is; 2 the command cannot work as
given; 3 a key is in the way; 5 disk.";

/// Before the diode: send what a receiver lacks.
#[derive(Debug, clap::Args)]
pub struct ResendArguments {
    /// What `haul diode want` wrote behind the diode; - reads it from standard input.
    #[arg(value_name = "FILE", required_unless_present = "full")]
    pub list: Option<PathBuf>,
    /// Tell the whole tree anew, without its content.
    #[arg(long)]
    pub full: bool,
}

/// Behind the diode: what the sender has removed and is kept for a while.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List it.
    List,
    /// Put something back where it was.
    Restore {
        /// Its path in the tree.
        path: PathBuf,
    },
}

/// A name becomes a folder's.
fn parse_name(text: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=64).contains(&text.len()) && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 64 letters, digits, - and _")
    }
}

fn parse_deletes(text: &str) -> Result<diode::Deletes, String> {
    match text.split_once('=') {
        None if text == "now" => Ok(diode::Deletes::Now),
        None if text == "never" => Ok(diode::Deletes::Never),
        Some(("after", time)) => units::parse_duration(time)
            .map(diode::Deletes::After)
            .map_err(|error| error.to_string()),
        _ => Err("write now, never, or after=TIME such as after=7d".to_owned()),
    }
}
