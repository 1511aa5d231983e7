//! The programs that are held against each other, what each is called, and which of them take part in a
//! row of the grid.

use serde::{Deserialize, Serialize};

use super::data::Load;
use super::grid::{GridRow, LinkKind};

/// One program, with one set of options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// `haul cp` to `haul serve`, by a client that has not met the host before.
    Haul,
    /// The same by a client that has copied to this host before and kept what it learnt.
    HaulAgain,
    /// `scp` with the cipher that the two sides agree on.
    Scp,
    /// `scp` with the cipher that is fastest where the processor does AES.
    ScpAes,
    /// `rsync` over ssh.
    RsyncSsh,
    /// `rsync` to its daemon, without encryption.
    RsyncDaemon,
    /// `qcp`, QUIC after a start over ssh.
    Qcp,
    /// `rclone` over sftp.
    Rclone,
    /// `uftp` to one receiver at a fixed rate, without encryption.
    Uftp,
    /// TLS over one TCP connection and nothing else.
    BareTls,
    /// The QUIC library alone, with haul's settings.
    BareQuic,
    /// `cp` on the same file system.
    Cp,
}

/// How a sender decides how fast to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Congestion {
    /// By the machine's default, or in a way of its own.
    Own,
    /// CUBIC (RFC 9438).
    Cubic,
    /// BBR, in the version of the kernel or of the program.
    Bbr,
}

/// One way to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contender {
    /// With what.
    pub program: Program,
    /// How it sends.
    pub congestion: Congestion,
}

/// All programs, in the order of the tables.
const ALL: [Program; 12] = [
    Program::Haul,
    Program::HaulAgain,
    Program::RsyncDaemon,
    Program::RsyncSsh,
    Program::Scp,
    Program::ScpAes,
    Program::Qcp,
    Program::Rclone,
    Program::Uftp,
    Program::BareTls,
    Program::BareQuic,
    Program::Cp,
];

impl Program {
    /// The name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Haul => "haul cp",
            Self::HaulAgain => "haul cp, host known",
            Self::Scp => "scp",
            Self::ScpAes => "scp, aes128-gcm",
            Self::RsyncSsh => "rsync over ssh",
            Self::RsyncDaemon => "rsync daemon, not encrypted",
            Self::Qcp => "qcp",
            Self::Rclone => "rclone over sftp",
            Self::Uftp => "uftp, not encrypted",
            Self::BareTls => "bare TLS over TCP",
            Self::BareQuic => "bare QUIC, haul's settings",
            Self::Cp => "cp, no network",
        }
    }

    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Haul | Self::HaulAgain => "haul",
            Self::Scp => "scp",
            Self::ScpAes => "scp-aes",
            Self::RsyncSsh => "rsync-ssh",
            Self::RsyncDaemon => "rsync-daemon",
            Self::Qcp => "qcp",
            Self::Rclone => "rclone",
            Self::Uftp => "uftp",
            Self::BareTls => "bare-tls",
            Self::BareQuic => "bare-quic",
            Self::Cp => "cp",
        }
    }

    /// Whether some program is meant by a word such as `rsync`, which means both of its ways.
    pub fn is_meant_by(self, word: &str) -> bool {
        let longer = || self.word().strip_prefix(word).is_some_and(|rest| rest.starts_with('-'));
        self.word() == word || longer()
    }

    /// Whether some program is meant by a word at all.
    pub fn any_is_meant_by(word: &str) -> bool {
        ALL.iter().any(|program| program.is_meant_by(word))
    }

    /// Whether it is haul.
    pub fn is_haul(self) -> bool {
        matches!(self, Self::Haul | Self::HaulAgain)
    }

    /// A tool that people copy with, as opposed to a yardstick.
    pub fn is_rival(self) -> bool {
        !self.is_haul() && !matches!(self, Self::BareTls | Self::BareQuic | Self::Cp)
    }

    /// A rival that encrypts, as haul does.
    pub fn is_encrypting_rival(self) -> bool {
        self.is_rival() && !matches!(self, Self::RsyncDaemon | Self::Uftp)
    }

    /// The ways of sending in which it runs. No row has one alone: the system's own choice may be the
    /// worse one on a link, as BBR is where nothing gets lost and processors are the limit.
    fn congestions(self) -> &'static [Congestion] {
        match self {
            Self::Scp | Self::ScpAes | Self::RsyncSsh | Self::RsyncDaemon | Self::BareTls => {
                &[Congestion::Cubic, Congestion::Bbr]
            }
            // qcp has both built in; it uses the kernel's for the start alone.
            Self::Qcp | Self::Rclone => &[Congestion::Cubic, Congestion::Bbr],
            _ => &[Congestion::Own],
        }
    }

    /// Whether it has a place in a row. The bare senders know one stream of bytes only, a copy without
    /// a network says nothing of a link, and a faster cipher helps only where the processor is busy.
    fn takes_part(self, row: &GridRow) -> bool {
        let large = matches!(row.load, Load::Large { .. });
        match self {
            Self::HaulAgain => row.again,
            Self::BareTls | Self::BareQuic => large,
            Self::ScpAes => large && matches!(row.link, LinkKind::Clean | LinkKind::Lan),
            Self::Cp => row.link == LinkKind::Clean,
            _ => true,
        }
    }
}

impl Congestion {
    /// The kernel's word for it.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Own => None,
            Self::Cubic => Some("cubic"),
            Self::Bbr => Some("bbr"),
        }
    }
}

impl Contender {
    /// Those that take part in a row.
    pub fn of(row: &GridRow) -> Vec<Self> {
        let mut contenders = Vec::new();
        for program in ALL.into_iter().filter(|program| program.takes_part(row)) {
            let ways = program.congestions().iter();
            contenders.extend(ways.map(|way| Self { program, congestion: *way }));
        }
        contenders
    }

    /// The name in the tables.
    pub fn name(self) -> String {
        match self.congestion.word() {
            Some(word) => format!("{}, {}", self.program.name(), word.to_uppercase()),
            None => self.program.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
