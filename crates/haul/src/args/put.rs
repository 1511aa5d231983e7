//! `haul put` and `haul inbox` as they are typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use link::{LinkChoice, Pace};
use transfer::message::Compression;

use super::{Rules, parse_compression, parse_link, parse_pace};
use crate::units;

/// Hand in files, with what describes them, to the inbox of a server
///
/// Files and metadata are one dataset: the server judges the metadata before the first byte, takes all of it
/// or nothing, and signs a receipt for both.
#[derive(Debug, clap::Args)]
#[command(after_help = PUT_AFTER)]
pub struct PutArguments {
    /// The server, HOST or HOST:PORT, where haul serve has an inbox.
    #[arg(value_name = "HOST")]
    pub host: OsString,
    /// What to hand in; a folder with all that is in it, FOLDER/. for what is in it, - for standard input.
    #[arg(required = true, num_args = 1.., value_name = "FILE|DIR|-")]
    pub words: Vec<OsString>,

    /// The metadata: a file that holds one JSON object; - reads it from standard input.
    #[arg(short = 'm', long, value_name = "META.json")]
    pub metadata: Option<PathBuf>,
    /// One key of the metadata, over what -m says. Dots lead into objects, as in run.lane:3; the value is
    /// taken as JSON if it is, and as text otherwise.
    #[arg(short = 'k', long = "key", value_name = "KEY:VALUE")]
    pub keys: Vec<String>,
    /// What the dataset is called, and of a single file also the file. [default: the name of the file or folder]
    #[arg(short = 'n', long, value_name = "NAME")]
    pub name: Option<String>,
    /// Which inbox, where the server has several.
    #[arg(long, value_name = "NAME")]
    pub inbox: Option<String>,
    /// Ask the server whether it would take this, and hand in nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Read all files before anything is sent, so that the server can say whether it has them already. Up to 64 MB
    /// this is done anyway.
    #[arg(long)]
    pub hash_first: bool,

    /// Which files to leave out, and which to take all the same.
    #[command(flatten)]
    pub rules: Rules,
    /// Send at most so many bytes per second, such as 10MB or 500k.
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub limit: Option<u64>,
    /// Which kind of link.
    #[arg(long, value_name = "auto|quic|tcp", default_value = "auto", value_parser = parse_link)]
    pub link: LinkChoice,
    /// How hard to push: see haul cp --help.
    #[arg(long, value_name = "fair|background|RATE", default_value = "fair", value_parser = parse_pace)]
    pub pace: Pace,
    /// Whether what is sent is compressed: see haul cp --help.
    #[arg(short = 'z', long, value_name = "auto|never|always", num_args = 0..=1, require_equals = true,
          default_value = "auto", default_missing_value = "always", value_parser = parse_compression)]
    pub compress: Compression,
    /// How long to wait for a link or a server that is down, such as 30s, 2h or 1d. A queue is waited for however
    /// long it is. [default: 5m, and 30s for the first contact]
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, hide_default_value = true)]
    pub give_up_after: Option<Duration>,
    /// Write the receipt here as well. One is always kept in the state folder.
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Trust a host that is not known yet without asking. A changed key is still refused.
    #[arg(long)]
    pub accept_new: bool,
    /// One JSON object per line on standard output.
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Errors only.
    #[arg(short, long)]
    pub quiet: bool,
    /// A line for each file, and what the link does.
    #[arg(short, long, conflicts_with = "quiet", overrides_with = "verbose")]
    pub verbose: bool,
}

const PUT_AFTER: &str = "\
Examples:
  haul inbox schema HOST                            what it wants to know
  haul put -m run42.json HOST run42/                a folder with its metadata
  haul put -m run.json -k sample.id:QTEST001 HOST reads.fastq.gz
  haul put -m run42.json --dry-run HOST run42/      whether it would be taken
  tar c run42 | haul put -m run42.json -n run42.tar HOST -

If the link is cut, haul connects again and goes on; stopped, the same command over the same files goes on
where it was, also in the queue.

Exit codes: 0 published; 1 not all of it could be read or verified, so nothing is published; 2 the command
cannot work as given; 3 refused: the metadata, a key, a quota; 4 the link did not come or come back; 5 disk;
130 interrupted.";

/// Ask a server what its inbox wants; look after the inboxes of this one
#[derive(Debug, Subcommand)]
pub enum InboxCommand {
    /// Print what an inbox wants of metadata, as JSON Schema.
    Schema {
        /// The server, HOST or HOST:PORT.
        #[arg(value_name = "HOST")]
        host: OsString,
        /// Which inbox, where there are several.
        inbox: Option<String>,
        /// Trust a host that is not known yet without asking.
        #[arg(long)]
        accept_new: bool,
    },
    /// List the datasets of this server's inboxes, newest first.
    List {
        /// Of this inbox alone.
        #[arg(long, value_name = "NAME")]
        inbox: Option<String>,
        /// At most so many; 0 for all.
        #[arg(long, value_name = "N", default_value_t = 100)]
        most: usize,
        /// Where they are.
        #[command(flatten)]
        at: RootOptions,
    },
    /// Find datasets by words in name, label and metadata, and by values at places in the metadata.
    ///
    /// All parts must hold. A word is looked for anywhere; key=value finds that value at that place, as in
    /// run.instrument=MiSeq; key:text finds a text there that holds this one. A value may have blanks where each part is an argument of its own, as in
    /// run.instrument='NovaSeq X'; within one argument, quotation marks keep words together.
    Search {
        /// The query.
        #[arg(required = true, num_args = 1.., value_name = "QUERY")]
        query: Vec<String>,
        /// At most so many; 0 for all.
        #[arg(long, value_name = "N", default_value_t = 100)]
        most: usize,
        /// Where they are.
        #[command(flatten)]
        at: RootOptions,
    },
    /// Say all that is known of a dataset: who sent it, when, its metadata, its hooks, where it is.
    Show {
        /// Its id.
        #[arg(value_name = "ID")]
        id: String,
        /// Where it is.
        #[command(flatten)]
        at: RootOptions,
    },
    /// Have hooks of a dataset that failed run again.
    RetryHooks {
        /// Its id.
        #[arg(value_name = "ID")]
        id: String,
        /// Where it is.
        #[command(flatten)]
        at: RootOptions,
    },
    /// Read datasets again and hold them against their digests, their receipts and the catalogue.
    ///
    /// Exits with 0 if all of it is whole, and with 1 if not.
    Verify {
        /// Which; all of them where none is named.
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// Where they are.
        #[command(flatten)]
        at: RootOptions,
    },
}

/// Which inboxes of this machine are meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RootOptions {
    /// The path of the inbox, as in the configuration. [default: those that haul serve has served last]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// One JSON object per line.
    #[arg(long)]
    pub json: bool,
}
