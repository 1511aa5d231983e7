//! How ssh is called, and what its end says. Pure.

use std::ffi::OsString;

use crate::address::Login;
use crate::report::{Code, Failure};

/// The program, if neither option nor environment names another.
const PROGRAM: &str = "ssh";

/// What the far shell prints where it has no haul, before its system and machine.
const MISSING: &str = "haul is missing:";
/// How a shell ends that does not find what it is to run.
const NOT_FOUND: i32 = 127;
/// How it ends if that may not be run.
const NOT_RUN: i32 = 126;
/// How ssh ends when it is ssh that failed.
const SSH_FAILED: i32 = 255;
/// How haul ends that does not know a command.
const USAGE: i32 = 2;

/// The user's ssh, and what it is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The program, and options that the user gave with it.
    words: Vec<String>,
    /// Where haul is at the other end, if the user said so.
    far_haul: Option<String>,
}

impl Ssh {
    /// From what the user said, if anything: words as a shell would split them at spaces.
    pub fn new(command: Option<&str>, far_haul: Option<&str>) -> Self {
        let words = command.unwrap_or(PROGRAM).split_whitespace().map(str::to_owned).collect();
        let mut ssh = Self { words, far_haul: far_haul.map(str::to_owned) };
        if ssh.words.is_empty() {
            ssh.words.push(PROGRAM.to_owned());
        }
        ssh
    }

    /// The same, which asks nobody for anything.
    pub fn asking_nobody(mut self) -> Self {
        self.words.push("-oBatchMode=yes".to_owned());
        self
    }

    /// What the user has ssh called.
    pub fn program(&self) -> &str {
        &self.words[0]
    }

    /// The program and its arguments that start haul at a login. A Ctrl-C at the terminal is for haul, which
    /// then has its last words to say through ssh. Host keys, agents, jump hosts and passwords are ssh's own
    /// business and the user's; what is switched off would only get into the way of a pipe.
    pub fn starting(&self, login: &Login) -> (&'static str, Vec<OsString>) {
        const UNDISTURBED: &str = "trap '' INT; exec \"$@\"";
        let mut words = vec!["-c".to_owned(), UNDISTURBED.to_owned(), "sh".to_owned()];
        words.extend_from_slice(&self.words);
        words.extend(["-T", "-a", "-x", "-oClearAllForwardings=yes"].map(str::to_owned));
        words.extend(destination(login));
        words.push(self.remote_command());
        ("sh", words.into_iter().map(OsString::from).collect())
    }

    /// Arguments that print what the user's configuration makes of a login.
    pub fn asking_arguments(&self, login: &Login) -> Vec<OsString> {
        let mut words = self.words[1..].to_vec();
        words.push("-G".to_owned());
        words.extend(destination(login));
        words.into_iter().map(OsString::from).collect()
    }

    /// What the login shell there is given, whichever that is: all of them know `exec` and single quotes.
    /// Shells that are not for people often do not search the folders that programs of a user lie in.
    fn remote_command(&self) -> String {
        match &self.far_haul {
            Some(path) => format!("exec {} {}", quoted(path), super::COMMAND),
            None => format!(
                "exec sh -c 'PATH=\"$PATH:$HOME/.local/bin:$HOME/.cargo/bin:/usr/local/bin\"; \
                 command -v haul >/dev/null 2>&1 || \
                 {{ echo \"{MISSING} $(uname -s) $(uname -m)\" >&2; exit {NOT_FOUND}; }}; \
                 exec haul {}'",
                super::COMMAND
            ),
        }
    }

    /// Why the program ended without a greeting, for the user. `said` are the last lines of its standard
    /// error, `noise` what came instead of a greeting, and `own` where this program is.
    pub fn explain(&self, login: &Login, code: Option<i32>, said: &[String], own: &str) -> Failure {
        let name = login.destination();
        let missing = said.iter().rev().find_map(|line| line.strip_prefix(MISSING));
        if let Some(machine) = missing {
            return self.not_installed(login, machine.trim(), own);
        }
        let last = said.iter().rev().find(|line| !line.trim().is_empty());
        let last = last.map_or_else(String::new, |line| format!(": {}", line.trim()));
        match code {
            Some(NOT_FOUND | NOT_RUN)
                if last.contains(self.program()) && !self.program().is_empty() =>
            {
                Failure::new(Code::Usage, format!("cannot run ssh, which leads to {name}{last}"))
                    .hint("install an ssh client, or name one with --ssh")
            }
            Some(NOT_FOUND) if self.far_haul.is_some() => {
                let path = self.far_haul.as_deref().unwrap_or_default();
                Failure::new(Code::Usage, format!("there is no {path} at {name}{last}"))
                    .hint("check --far-haul")
            }
            Some(USAGE) => Failure::new(
                Code::Usage,
                format!("haul at {name} is too old to be reached over ssh{last}"),
            )
            .hint(format!("install this version there:\n  {}", self.install_command(login, own))),
            Some(SSH_FAILED) => {
                let denied = [
                    "Permission denied",
                    "Host key verification failed",
                    "Too many authentication",
                ];
                let is_denied = denied.iter().any(|words| last.contains(words));
                let code = if is_denied { Code::Refused } else { Code::Link };
                Failure::new(code, format!("ssh does not reach {name}{last}")).hint(format!(
                    "see whether `{} {}` works",
                    self.words.join(" "),
                    shown(login)
                ))
            }
            Some(code) => {
                Failure::new(Code::Link, format!("haul at {name} ended with code {code}{last}"))
            }
            None => Failure::new(Code::Link, format!("ssh to {name} was killed{last}")),
        }
    }

    fn not_installed(&self, login: &Login, machine: &str, own: &str) -> Failure {
        let name = login.destination();
        let text = format!("haul is not installed at {name}");
        let command = self.install_command(login, own);
        let ours = format!("{} {}", "Linux", std::env::consts::ARCH);
        let hint = match machine == ours {
            true => format!("this command installs it there, for that login:\n  {command}"),
            false => format!(
                "that machine is {machine} and this one {ours}; build haul for it, and with the path of \
                 that program at the end, this command installs it there:\n  {command}"
            ),
        };
        Failure::new(Code::Usage, text).hint(hint)
    }

    /// One command that puts this very program where the far shell finds it.
    fn install_command(&self, login: &Login, own: &str) -> String {
        format!(
            "{} {} 'mkdir -p ~/.local/bin && cd ~/.local/bin && cat > haul.new && chmod 755 haul.new && \
             mv haul.new haul' < {}",
            self.words.join(" "),
            shown(login),
            quoted(own)
        )
    }
}

/// Whether a line of ssh's standard error is our own script's, which the user need not see.
pub fn is_for_us(line: &str) -> bool {
    line.starts_with(MISSING)
}

/// A login as ssh's arguments name it. A host never begins with `-`, and neither does a user.
fn destination(login: &Login) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(port) = login.port {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    words.push(login.destination());
    words
}

fn shown(login: &Login) -> String {
    destination(login).join(" ")
}

/// A word that a shell takes as it stands.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The host that ssh would connect to, from what its `-G` prints; none where it would not by itself.
pub fn configured_host(printed: &str) -> Option<String> {
    let value = |key: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.map(str::trim).filter(|value| !value.is_empty() && *value != "none")
    };
    value("hostname").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(port: Option<u16>) -> Login {
        Login { user: Some("me".to_owned()), host: "there".to_owned(), port }
    }

    #[test]
    fn ssh_is_called_as_the_user_has_it() {
        let words = |ssh: &Ssh, port| {
            let (program, words) = ssh.starting(&login(port));
            assert_eq!((program, words[0].to_str()), ("sh", Some("-c")));
            words.into_iter().skip(3).map(|word| word.into_string().unwrap()).collect::<Vec<_>>()
        };
        let plain = words(&Ssh::new(None, None), None);
        let expected = ["ssh", "-T", "-a", "-x", "-oClearAllForwardings=yes", "me@there"];
        assert_eq!(plain[..6], expected);
        assert!(plain[6].starts_with("exec sh -c '") && plain[6].ends_with("exec haul over-ssh'"));
        assert_eq!(plain[6].matches('\'').count(), 2, "{}", plain[6]);
        let ssh = Ssh::new(Some("/opt/ssh -J gate"), Some("/opt/my haul"));
        assert_eq!(ssh.program(), "/opt/ssh");
        let words = words(&ssh, Some(22));
        assert_eq!(words[..3], ["/opt/ssh", "-J", "gate"]);
        assert_eq!(words[7..], ["-p", "22", "me@there", "exec '/opt/my haul' over-ssh"][..]);
        assert_eq!(Ssh::new(Some("  "), None).program(), "ssh");
        let asking = Ssh::new(None, None).asking_arguments(&login(None));
        assert_eq!(asking, ["-G", "me@there"]);
    }

    #[test]
    fn the_end_of_ssh_is_explained() {
        let ssh = Ssh::new(None, None);
        let check = |code, said: &[&str], expected: &[&str]| {
            let said: Vec<String> = said.iter().map(|line| (*line).to_owned()).collect();
            let failure = ssh.explain(&login(None), code, &said, "/opt/haul");
            let text = format!("{failure:?}");
            for words in expected {
                assert!(text.contains(words), "{text}");
            }
        };
        let same = format!("haul is missing: Linux {}", std::env::consts::ARCH);
        check(
            Some(127),
            &["motd", &same],
            &["not installed at me@there", "ssh me@there 'mkdir", "< /opt/haul"],
        );
        check(
            Some(127),
            &["haul is missing: Linux riscv64"],
            &["Linux riscv64", "build haul for it"],
        );
        check(
            Some(255),
            &["Permission denied (publickey)."],
            &["Refused", "Permission denied", "`ssh me@there`"],
        );
        check(
            Some(255),
            &["connect to host there port 22: Connection refused", ""],
            &["Link", "port 22"],
        );
        check(Some(2), &["error: unrecognized subcommand"], &["too old"]);
        check(None, &[], &["was killed"]);
        check(Some(1), &["haul: no home"], &["code 1: haul: no home"]);
        let far = Ssh::new(None, Some("/x/haul"));
        let failure = far.explain(&login(None), Some(127), &[], "");
        assert!(failure.to_string().contains("no /x/haul at me@there"));
    }

    #[test]
    fn ssh_says_which_host_it_would_take() {
        let printed = "user me\nhostname 10.0.0.7\nport 22\nproxyjump gate\n";
        assert_eq!(configured_host(printed).as_deref(), Some("10.0.0.7"));
        assert_eq!(configured_host("port 22\nhostnames x\n"), None);
    }
}
