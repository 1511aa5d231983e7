//! The arguments of `haul key`.

use std::time::Duration;

use clap::Subcommand;

use crate::units;

/// Show this machine's key; decide whom it trusts.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Print this machine's key line, which other machines allow or trust.
    Show {
        /// Print the fingerprint only, to be read aloud or compared.
        #[arg(long)]
        fingerprint: bool,
    },
    Allow(AllowArguments),
    /// Let a client of dync in by its key file, as pyzmq has written it (client.key).
    #[cfg(feature = "dync")]
    Import {
        /// The file.
        file: std::path::PathBuf,
        /// What the client is called, in logs and lists.
        #[arg(long = "as", value_name = "NAME")]
        label: String,
        /// Into this inbox. Can be repeated; '*' stands for all. [default: that of [dync] in the configuration]
        #[arg(long = "inbox", value_name = "NAME")]
        inboxes: Vec<String>,
        #[command(flatten)]
        rights: RightsArguments,
    },
    /// Take down the key of a host before the first connection to it.
    Trust {
        /// HOST[:PORT] as it will be dialled.
        host: String,
        /// What `haul key show` prints there.
        #[arg(required = true, num_args = 1.., value_name = "LINE")]
        line: Vec<String>,
    },
    /// List the keys that may connect here with what they may do, and the hosts that are known here.
    List,
    Request(RequestArguments),
    Invite(InviteArguments),
    /// List the keys that ask to be let in.
    Pending,
    Approve(ApproveArguments),
    /// Take a key off the list; its open connections end within seconds. A request of the key goes too.
    Revoke {
        /// A fingerprint or its beginning, a key line, or the comment of one, spelled exactly.
        #[arg(required_unless_present = "host", value_name = "WHICH", num_args = 0..)]
        which: Vec<String>,
        /// Forget the keys of a host that this machine connects to, in place of that.
        #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "which")]
        host: Option<String>,
    },
}

/// Let the holder of a key connect to this machine's `haul serve`.
#[derive(Debug, clap::Args)]
pub struct AllowArguments {
    /// What `haul key show` prints on the other machine; - reads it from standard input.
    #[arg(required = true, num_args = 1.., value_name = "LINE")]
    pub line: Vec<String>,
    /// Only at or below this path, which begins with an export's name. Can be repeated.
    #[arg(long = "path", value_name = "EXPORT/PATH")]
    pub paths: Vec<String>,
    /// It may copy from here, not to here.
    #[arg(long, conflicts_with = "write_only")]
    pub read_only: bool,
    /// It may copy to here, not from here, and list nothing.
    #[arg(long)]
    pub write_only: bool,
    /// Into this inbox, and nothing else unless --path says where. Can be repeated; '*' stands for all.
    #[arg(long = "inbox", value_name = "NAME")]
    pub inboxes: Vec<String>,
    #[command(flatten)]
    pub rights: RightsArguments,
    /// Until this day or moment: 2027-01-31 or 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Only from these addresses: 10.0.0.0/8,2001:db8::7.
    #[arg(long, value_name = "NETWORKS")]
    pub from: Option<String>,
}

/// How much a key may.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RightsArguments {
    /// All its datasets together may have so many bytes, such as 2T.
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub quota: Option<u64>,
    /// It may have so many datasets.
    #[arg(long, value_name = "N")]
    pub quota_datasets: Option<u64>,
    /// At most so many bytes per second, such as 10MB.
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub max_rate: Option<u64>,
}

/// Ask another machine to let this one in, where its operator takes requests or has given out a code.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 this machine is let in, or was before; 1 the request waits for the operator; 2 the command cannot work as
given; 3 refused: no requests are taken there, or the code is not; 4 the host was not reached; 130 interrupted.")]
pub struct RequestArguments {
    /// HOST[:PORT]
    pub host: String,
    /// The one-time code that the operator has given out; - reads it from standard input, where other users of this
    /// machine do not see it.
    #[arg(long)]
    pub code: Option<String>,
    /// Who you are, for the operator. [default: user@machine]
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Take the key that an unknown host shows, without asking.
    #[arg(long)]
    pub accept_new: bool,
}

/// Make a one-time code that lets one key in, with these rights.
#[derive(Debug, clap::Args)]
pub struct InviteArguments {
    /// What the key will be called, in lists and logs.
    #[arg(long = "as", value_name = "NAME")]
    pub name: String,
    /// Into which inbox it may hand in. Can be repeated; '*' stands for all.
    #[arg(long = "inbox", value_name = "NAME", required = true)]
    pub inboxes: Vec<String>,
    #[command(flatten)]
    pub rights: RightsArguments,
    /// How long the code can be used.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = units::parse_duration)]
    pub expires: Duration,
}

/// Let in a key that asks for it (`haul key pending` lists them).
#[derive(Debug, clap::Args)]
pub struct ApproveArguments {
    /// Its fingerprint, or the first 8 characters of it or more.
    pub fingerprint: String,
    /// What it will be called, in lists and logs.
    #[arg(long = "as", value_name = "NAME")]
    pub name: String,
    /// Into which inbox it may hand in. Can be repeated; '*' stands for all.
    #[arg(long = "inbox", value_name = "NAME", required = true)]
    pub inboxes: Vec<String>,
    #[command(flatten)]
    pub rights: RightsArguments,
}
