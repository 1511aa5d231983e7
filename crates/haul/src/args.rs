//! The command line as a person types it. It is read here and nowhere else; every text a user sees in
//! `--help` is a comment or an attribute of this module.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use link::{LaneKind, LinkChoice, Pace};
use transfer::message::Compression;

use crate::units::{self, UnitError};

mod diode;
mod habits;
mod list;
mod put;
mod rules;

pub use diode::{
    DiodeArguments, DiodeCommand, DiodeKeyCommand, QuarantineCommand, RecvArguments,
    RehearseArguments, ResendArguments, SendArguments, TellingArguments,
};
pub use list::ListOptions;
pub use put::{InboxCommand, PutArguments, RootOptions};
pub use rules::Rules;

/// Carries files over any link and proves that they arrived.
///
/// haul copies files and folders between machines, over QUIC or TCP, whichever suits the path. A copy
/// goes on by itself after the link was cut, every byte is verified before a file gets its name, and the
/// receiver signs a receipt.
/// Machines know each other by their keys; there are no passwords and no user names.
#[derive(Debug, Parser)]
#[command(name = "haul", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
See it work, on this machine alone:
  haul try

Copy between two machines:
  haul serve --listen '[::]:4285' --export /srv/data     # on the machine that has the folder
  haul key show                                          # on yours: prints your key line
  haul key allow 'haul-ed25519 AAAA… you@laptop'         # there: lets you in
  haul cp -r photos HOST:                                # on yours, as with scp

Every command explains itself: haul cp --help";

/// The commands. What `--help` says of each stands with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    Cp(Box<CopyArguments>),
    Put(Box<PutArguments>),
    #[command(subcommand)]
    Inbox(InboxCommand),
    Doctor(DoctorArguments),
    Serve(ServeArguments),
    Ls(ListArguments),
    #[command(subcommand)]
    Key(KeyCommand),
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    Diode(DiodeArguments),
    Try(TryArguments),
    /// What ssh starts at the other end of a copy to or from a login. It talks to haul, not to people.
    #[command(hide = true)]
    OverSsh,
    /// Print what a shell needs to complete commands and options
    ///
    /// For bash: haul completions bash > ~/.local/share/bash-completion/completions/haul;
    /// for zsh: haul completions zsh > a folder of $fpath, as _haul;
    /// for fish: haul completions fish > ~/.config/fish/completions/haul.fish
    #[command(verbatim_doc_comment)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command into a folder that exists, for those who make packages.
    #[command(hide = true)]
    Man {
        /// The folder.
        dir: PathBuf,
    },
}

impl Arguments {
    /// The command line of this process. For a mistake in it, and for --help, the parser ends the process.
    pub fn of_process() -> Self {
        Self::read(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// What a shell needs to complete commands and options.
    pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Self::command(), "haul", &mut text);
        text
    }

    /// Manual pages, each with its name: one for haul, and one for each command that is shown.
    pub fn man_pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
        let mut pages = Vec::new();
        let mut root = Self::command();
        // Gives every command its full name.
        root.build();
        add_pages(&root, "haul", &mut pages)?;
        Ok(pages)
    }

    fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        Self::try_parse_from(&words).map_err(|error| {
            let command = words.get(1).filter(|_| error.kind() == ErrorKind::UnknownArgument);
            // Options of other commands mean something else.
            if command.is_none_or(|command| command == "cp") {
                habits::explain(error)
            } else {
                error
            }
        })
    }

    /// Whether errors are to be told on standard output too.
    pub fn wants_json(&self) -> bool {
        match &self.command {
            Command::Cp(copy) => copy.json,
            Command::Doctor(doctor) => doctor.json,
            Command::Ls(list) => list.json,
            Command::Diode(diode) => diode.wants_json(),
            _ => false,
        }
    }
}

fn add_pages(
    command: &clap::Command,
    name: &str,
    pages: &mut Vec<(String, Vec<u8>)>,
) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name.to_owned()).render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        add_pages(inner, &format!("{name}-{}", inner.get_name()), pages)?;
    }
    Ok(())
}

/// Copy files and folders, to another machine or from it
#[derive(Debug, clap::Args)]
#[command(long_about = COPY_ABOUT, after_help = COPY_AFTER)]
#[command(override_usage = "haul cp [OPTIONS] SOURCE... TARGET")]
pub struct CopyArguments {
    /// What to copy, and last where to.
    // One list, because the parser takes options between two lists of words only in some places.
    #[arg(required = true, num_args = 1.., value_name = "SOURCE... TARGET")]
    pub words: Vec<OsString>,

    /// Accepted for habit: folders are always copied whole, but for those in a list.
    #[arg(short = 'r', visible_short_alias = 'R', long)]
    pub recursive: bool,
    /// Accepted for habit: times and permissions are always kept.
    #[arg(short = 'p', long)]
    pub preserve: bool,

    /// Which files to leave out, and which to take all the same.
    #[command(flatten)]
    pub rules: Rules,

    /// What of the folder is copied.
    #[command(flatten)]
    pub list: ListOptions,

    /// Compare files of the same size and time by content too.
    #[arg(short, long)]
    pub checksum: bool,
    /// What to do when something different has the name of a file.
    #[arg(long, value_name = "WHAT", default_value = "overwrite")]
    pub existing: ExistingChoice,
    /// Remove from the target's folders what the source does not have.
    ///
    /// Refused when more than half of what is there would go, for then the source is probably the
    /// wrong one; --delete-extra=all removes it all the same. What --exclude leaves out stays.
    #[arg(long, value_name = "HOW MUCH", num_args = 0..=1, require_equals = true,
          default_missing_value = "guarded")]
    pub delete_extra: Option<DeletionChoice>,
    /// Change nothing; say what would be done.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// After the copy, read all that it covers again from both disks, and compare. What differs is named, and the
    /// exit code is 1.
    #[arg(long, conflicts_with = "dry_run")]
    pub verify: bool,

    /// Send at most so many bytes per second, such as 10MB or 500k.
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub limit: Option<u64>,
    /// Which kind of link: auto tries both, takes TCP where the host is near and QUIC where it is far,
    /// and changes while the copy runs if the other gets through or does better. To a login, what does
    /// not get through goes through ssh itself, and with ssh all of it does.
    /// [default: auto]
    #[arg(long, value_name = "auto|quic|tcp|ssh", value_parser = parse_link_or_ssh)]
    pub link: Option<LinkChoice>,
    /// Carry what goes between two other machines through this one, for when the first cannot reach the second.
    ///
    /// The two encrypt it for each other: this machine passes on what it cannot read.
    #[arg(long, conflicts_with = "link")]
    pub via_me: bool,
    /// The ssh that leads to a login, with options if need be, such as 'ssh -J gate'. [default: HAUL_SSH
    /// in the environment, or ssh]
    #[arg(short = 'e', long, value_name = "COMMAND")]
    pub ssh: Option<String>,
    /// Where haul is at a login, if its shell does not find it.
    #[arg(long, value_name = "PATH")]
    pub far_haul: Option<String>,
    /// Listen at a login on one of these UDP and TCP ports, which a firewall lets through.
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_ports)]
    pub far_ports: Option<(u16, u16)>,
    /// Whether what is sent is compressed: auto does it while the link is slower than the processor, and
    /// leaves alone what does not get smaller; -z alone means always.
    #[arg(short = 'z', visible_short_alias = 'C', long, value_name = "auto|never|always", num_args = 0..=1,
          require_equals = true, default_value = "auto", default_missing_value = "always",
          value_parser = parse_compression)]
    pub compress: Compression,
    /// Send files that differ whole, instead of what the target lacks of them.
    #[arg(short = 'W', long)]
    pub whole_file: bool,
    /// How hard to push: fair shares the path with others, background leaves it to them, and a rate
    /// such as 20MB, which is bytes per second, is kept whatever is lost: one above what the path has
    /// takes it from everybody else. For a pull and over TCP a rate is an upper bound, and over TCP
    /// background is only as modest as the system can be: see the guide.
    /// [default: fair]
    #[arg(long, value_name = "fair|background|RATE", value_parser = parse_pace)]
    pub pace: Option<Pace>,
    /// How long to wait for a link that is down, such as 30s, 2h or 1d. [default: 5m, and 30s for the
    /// first contact]
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, hide_default_value = true)]
    pub give_up_after: Option<Duration>,
    /// Say done only when every file that was copied would survive a power cut.
    #[arg(long)]
    pub fsync: bool,

    /// Carry user and group numbers. The receiving side must be root, and a daemon must allow it for the
    /// export (owner = true).
    #[arg(long)]
    pub owner: bool,
    /// Carry extended attributes of the user.* kind.
    #[arg(long)]
    pub xattrs: bool,
    /// Carry set-user, set-group and sticky bits. A daemon must allow it for the export (setid = true).
    #[arg(long)]
    pub setid: bool,

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
    /// A line for each file, what the link does, and what holds the copy back.
    #[arg(short, long, conflicts_with = "quiet", overrides_with = "verbose")]
    pub verbose: bool,
}

const COPY_ABOUT: &str = "\
Copy files and folders, to another machine or from it.

SOURCE and TARGET are paths of this machine, or

  HOST:PATH                 a path on another machine, where haul serve runs or ssh leads
  USER@HOST:PATH            the same over ssh; haul need only be installed there
  HOST:PORT:PATH            the same, at another port than 4285
  [ADDRESS]:PATH            an IPv6 address stands in brackets
  haul://HOST[:PORT]/PATH
  NAME:PATH                 a machine that has a name in remotes.toml, see the guide
  -                         standard input or output

A local file whose name holds a colon is written ./a:b. A far path begins with the name of an export, \
or with / for the full path there. Where only one folder is exported its name can be left out, and \
HOST: is that folder. `haul ls HOST` lists exports.

Source and target may be two other machines: the bytes go straight from the one to the other, which need \
not know each other. Both must let this machine in. Where the first cannot reach the second, --via-me helps.

A target that is an existing folder is copied into; anything else is the new name. With several \
sources, or with a slash at the end, the target must be a folder that exists. FOLDER/. means what is \
in the folder.

If the link is cut, haul connects again and goes on. If the command is stopped, the same command goes \
on where it was.";

const COPY_AFTER: &str = "\
Examples:
  haul cp report.pdf HOST:inbox/                    into the export 'inbox', which exists
  haul cp -r photos HOST:archive/photos-2027        under a new name
  haul cp -r HOST:archive/photos/. .                what is in the folder, to here
  haul cp HOST:a HOST:b /tmp/                       several at once
  haul cp 'HOST:logs/*.gz' .                        a pattern, quoted: it is for the other machine
  haul cp -r --exclude target --exclude '*.o' src HOST:
  haul cp -r HOST:photos OTHER:archive/             from one machine to another, not by way of this one
  find src -newer mark -print0 | haul cp --files-from - -0 src HOST:
  tar c /etc | haul cp - HOST:backup/etc.tar        from a pipe; it is spooled on disk first
  haul cp HOST:backup/etc.tar - | tar t             to a pipe, once all of it is verified

Exit codes: 0 done; 1 some files failed, or differ after --verify; 2 the command cannot work as given; 3 refused, a key or a
permission; 4 the link did not come or come back; 5 disk; 130 interrupted.";

/// What to do when something different has the name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExistingChoice {
    /// Replace it, once the new file is verified.
    Overwrite,
    /// Leave it, and count the file as skipped.
    Skip,
    /// Leave it, and count the file as failed.
    Fail,
    /// Keep it as NAME.~1~.
    Rename,
}

/// How much --delete-extra may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeletionChoice {
    /// At most half of what is there.
    Guarded,
    /// Everything that the source does not have.
    All,
}

/// Let other machines copy from and to folders of this one.
///
/// Nobody may connect until `haul key allow` has put a key on the list; keys that are added or revoked
/// while the daemon runs count at once. It runs in the foreground until SIGINT or SIGTERM.
#[derive(Debug, clap::Args)]
#[command(after_help = SERVE_AFTER)]
pub struct ServeArguments {
    /// Where to listen, ADDRESS:PORT. [default: [::]:4285, every address of this machine]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// A folder that machines on the list may copy from and to; :ro forbids the latter. Its name is
    /// that of the folder unless another is given. Can be repeated.
    #[arg(long, value_name = "PATH[:ro][=NAME]")]
    pub export: Vec<OsString>,
    /// Read exports and address from a TOML file too.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Errors only.
    #[arg(short, long)]
    pub quiet: bool,
}

const SERVE_AFTER: &str = "\
Examples:
  haul serve --export /srv/data
  haul serve --listen 10.0.0.1:4285 --export /srv/data:ro --export /srv/inbox=drop

A configuration file says the same:
  listen = \"[::]:4285\"
  [[export]]
  path = \"/srv/data\"
  mode = \"ro\"
Only there can an export allow peers to set owners (owner = true) and set-id bits (setid = true).

Exit codes: 0 stopped by a signal; 2 wrong arguments, a folder that is missing, a port that is busy;
3 a key file that others can read.";

/// List the exports of a machine, or what is in a folder of one.
#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// HOST for its exports, HOST:PATH for a folder.
    #[arg(value_name = "HOST[:PATH]")]
    pub place: OsString,
    /// Kind, permissions, size and time too.
    #[arg(short, long)]
    pub long: bool,
    /// One JSON object per line.
    #[arg(long)]
    pub json: bool,
    /// The ssh that leads to a login. [default: HAUL_SSH in the environment, or ssh]
    #[arg(short = 'e', long, value_name = "COMMAND")]
    pub ssh: Option<String>,
    /// Where haul is at a login, if its shell does not find it.
    #[arg(long, value_name = "PATH")]
    pub far_haul: Option<String>,
    /// Trust a host that is not known yet without asking.
    #[arg(long)]
    pub accept_new: bool,
}

/// Say what bounds a copy to or from a machine, and what to change
///
/// It looks up the host, connects, and has the link measured each way for some seconds with bytes that
/// mean nothing; no file is touched. With --disk it measures a disk of this machine too. Every statement
/// rests on a figure that was measured; what could not be measured is said to be so.
#[derive(Debug, clap::Args)]
#[command(after_help = DOCTOR_AFTER)]
pub struct DoctorArguments {
    /// HOST, or HOST:PATH to see whether this key may read that path.
    #[arg(value_name = "HOST[:PATH]")]
    pub place: OsString,
    /// How long each direction is measured, 1 to 10.
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u64).range(1..=transfer::message::MAX_MEASURE_SECONDS))]
    pub seconds: u64,
    /// Which kind of link is measured: auto tries both and takes the one that a copy would begin with.
    #[arg(long, value_name = "auto|quic|tcp", default_value = "auto", value_parser = parse_link)]
    pub link: LinkChoice,
    /// Measure the disk under this folder too, with a scratch file of 256 MB and some small ones, which
    /// are removed.
    #[arg(long, value_name = "PATH")]
    pub disk: Option<PathBuf>,
    /// One JSON object on standard output.
    #[arg(long)]
    pub json: bool,
    /// Trust a host that is not known yet without asking.
    #[arg(long)]
    pub accept_new: bool,
}

const DOCTOR_AFTER: &str = "\
Examples:
  haul doctor HOST
  haul doctor HOST:archive --disk /srv/photos
  haul doctor HOST --link tcp                       what a copy with the same option would have

Exit codes: 0 everything was measured; 1 something could not be; 2 the command cannot work as given;
3 refused, a key or a permission; 4 the host was not reached; 130 interrupted.";

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
    /// Take down the key of a host before the first connection to it.
    Trust {
        /// HOST[:PORT] as it will be dialled.
        host: String,
        /// What `haul key show` prints there.
        #[arg(required = true, num_args = 1.., value_name = "LINE")]
        line: Vec<String>,
    },
    /// List the keys that may connect here, and the hosts that are known here.
    List,
    /// Take a key off the list; its open connections end within seconds.
    Revoke {
        /// A fingerprint, a key line, or the comment of one, spelled exactly.
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
    /// At most so many bytes per second, such as 10MB.
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub max_rate: Option<u64>,
    /// Until this day or moment: 2027-01-31 or 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Only from these addresses: 10.0.0.0/8,2001:db8::7.
    #[arg(long, value_name = "NETWORKS")]
    pub from: Option<String>,
}

/// Read and check receipts.
#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Print what a receipt says, in words. Its signature is checked too.
    Show {
        /// The receipt.
        file: PathBuf,
    },
    /// Check a receipt: its signature, who signed it, and whether a tree is what it says.
    ///
    /// Exits with 0 if all that was asked for holds, and with 1 if not.
    Verify {
        /// The receipt.
        file: PathBuf,
        /// Read this folder (or file) and compare it with what the receipt says of the content.
        #[arg(long, value_name = "DIR")]
        tree: Option<PathBuf>,
        /// The key that must have signed: a fingerprint or a key line.
        #[arg(long, value_name = "KEY")]
        signer: Option<String>,
    },
}

/// Copy a folder over a bad link inside this machine, and see that it arrives.
///
/// A daemon and a copy run in this process with keys of their own, and between them a link that takes
/// 20 ms each way, loses 2 % of the packets, and is cut for two seconds halfway. Then both trees are
/// compared byte by byte and the receipt is checked. Nothing is left behind, and no root is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exits with 0 only if the copy is identical.")]
pub struct TryArguments {
    /// The folder to copy. [default: the current one, without folders called target or node_modules]
    pub dir: Option<PathBuf>,
    /// Copy it even if it has more than 2 GB; there must be room for a copy in the temporary folder.
    #[arg(long)]
    pub force: bool,
    /// Where the chance that loses packets starts.
    #[arg(long, default_value_t = 1, hide = true)]
    pub seed: u64,
    /// A line for each file, what the link does, and what holds the copy back.
    #[arg(short, long, overrides_with = "verbose")]
    pub verbose: bool,
}

pub(crate) fn parse_link(text: &str) -> Result<LinkChoice, String> {
    match text {
        "auto" => Ok(LinkChoice::Auto),
        "quic" => Ok(LinkChoice::Only(LaneKind::Quic)),
        "tcp" => Ok(LinkChoice::Only(LaneKind::Tcp)),
        _ => Err("say auto, quic or tcp".to_owned()),
    }
}

/// Through ssh alone there is nothing but logins to be reached.
fn parse_link_or_ssh(text: &str) -> Result<LinkChoice, String> {
    match text {
        "ssh" => Ok(LinkChoice::Only(LaneKind::Pipe)),
        _ => parse_link(text).map_err(|_| "say auto, quic, tcp or ssh".to_owned()),
    }
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok((first, last)),
        _ => Err("say two ports such as 60000-60010, or one".to_owned()),
    }
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    match text {
        "auto" => Ok(Compression::Auto),
        "never" => Ok(Compression::Never),
        "always" => Ok(Compression::Always),
        _ => Err("say auto, never or always".to_owned()),
    }
}

pub(crate) fn parse_pace(text: &str) -> Result<Pace, String> {
    match text {
        "fair" => Ok(Pace::Fair),
        "background" => Ok(Pace::Background),
        _ => units::parse_rate(text).map(Pace::Fixed).map_err(|error| match error {
            UnitError::Unitless => error.to_string(),
            _ => "say fair, background, or a rate such as 20MB".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
