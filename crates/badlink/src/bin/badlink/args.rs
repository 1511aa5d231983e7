//! The command line. What the options of the link mean is known to `badlink::words`.

use badlink::words::takes_a_value;
use badlink::{Change, Nanos, PairOptions, Settings};

pub const USAGE: &str = "\
badlink [OPTIONS] [-- COMMAND [ARG...]]

Joins two new network namespaces by a bad link and runs COMMAND beside them (without
COMMAND: until Ctrl-C). COMMAND sees $BADLINK_A and $BADLINK_B (namespaces, for `ip netns
exec`), $BADLINK_A_IP, $BADLINK_B_IP, $BADLINK_A_IP6 and $BADLINK_B_IP6. Needs root,
iproute2 and /dev/net/tun.

Link options; with the prefix ab- or ba- (--ab-loss 1%) they set one direction only:
  --delay TIME          one-way delay (50ms, 200us, 1s)
  --jitter TIME         delay varies evenly by up to +-TIME, in order
  --loss PCT            independent loss (1%)
  --burst-loss P,R[,BAD[,GOOD]]  Gilbert-Elliott: chance to turn bad, to turn good again,
                        loss while bad (100%) and while good (0%)
  --reorder PCT         hold these packets back so that later ones overtake them
  --reorder-by TIME     for how long (2ms)
  --duplicate PCT       deliver twice
  --corrupt PCT         flip one random bit
  --rate RATE           bottleneck (200mbit; bit, kbit, mbit, gbit), IP bytes counted
  --queue SIZE          tail-drop queue before it (1MB, 64KiB; default: 100 ms of RATE)
  --police RATE:SIZE    token bucket before that, which drops and queues nothing (100mbit:60KB)
  --blocked             nothing passes
Others:
  --at TIME:CHANGE      TIME after the start: udp-drop (UDP vanishes both ways), udp-pass,
                        the same with tcp, down, up, or a link option (--at 3s:rate=30mbit --at 5s:ab-loss=2%);
                        may be given several times
  --one-way             data diode: same as --ba-blocked
  --clean               a plain pair of virtual devices, without any of the above
  --mtu N               68 to 65535 (1500)
  --seed N              for the random choices (1)
  --sysctl KEY=VALUE    set in both namespaces (net.ipv4.tcp_congestion_control=bbr)
  --names A,B           of the namespaces (bl<pid>-0a,bl<pid>-0b)
  --quiet               no counters at the end

At the end one line per direction goes to standard error: packets sent and delivered, drops
by cause, and how late packets were compared to the model. UNREAD there means that this
machine was too slow and dropped packets that the model did not ask for: lower the rate.

Exit code: that of COMMAND; 128 + signal after Ctrl-C, SIGTERM or SIGHUP; 125 if the link
could not be set up; 2 for bad options.
";

/// What the command line asks for.
#[derive(Debug, Default)]
pub struct Args {
    /// The link.
    pub pair: PairOptions,
    /// Changes by time.
    pub schedule: Vec<(Nanos, Change)>,
    /// No counters.
    pub quiet: bool,
    /// What runs beside it; empty for nothing.
    pub command: Vec<String>,
}

/// Reads the words behind the program's name.
pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Args, String> {
    let mut args = Args::default();
    let (mut settings, mut clean) = (Settings::default(), false);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            args.command = words.collect();
            break;
        }
        let name = word.strip_prefix("--").ok_or(format!("unexpected {word:?}"))?;
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match name {
            "one-way" => settings.set("ba-blocked", "").map_err(|error| error.to_string())?,
            "clean" => clean = true,
            "quiet" => args.quiet = true,
            "mtu" => args.pair.mtu = whole(&value()?)?,
            "seed" => args.pair.seed = whole(&value()?)?,
            "names" => {
                let both = value()?;
                let (a, b) = both.split_once(',').ok_or("--names needs A,B")?;
                args.pair.names = Some([a.into(), b.into()]);
            }
            "sysctl" => {
                let setting = value()?;
                let (key, to) = setting.split_once('=').ok_or("--sysctl needs KEY=VALUE")?;
                args.pair.sysctls.push((key.into(), to.into()));
            }
            "at" => {
                let change = Change::parse_at(&value()?).map_err(|error| error.to_string())?;
                args.schedule.push(change);
            }
            _ => {
                // An unknown name is told before a value is asked for that it may not have.
                let text = if takes_a_value(name) { words.next() } else { Some(String::new()) };
                settings.set(name, text.as_deref().unwrap_or("")).map_err(|e| e.to_string())?;
            }
        }
    }
    args.schedule.sort_by_key(|(at, _)| *at);
    if clean && (settings != Settings::default() || !args.schedule.is_empty()) {
        return Err("--clean has no link options and no changes".into());
    }
    args.pair.model = (!clean).then_some(settings);
    Ok(args)
}

fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number in range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Args, String> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn options_of_the_link_and_of_the_tool() {
        let args = parse_line(
            "--delay 50ms --one-way --at 5s:up --at 2s:udp-drop --seed 7 --quiet -- cmd --loss",
        )
        .unwrap();
        let settings = args.pair.model.unwrap();
        assert_eq!(settings.profiles[0].delay, 50_000_000);
        assert_eq!((settings.profiles[0].blocked, settings.profiles[1].blocked), (false, true));
        let at: Vec<_> = args.schedule.iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [2_000_000_000, 5_000_000_000]);
        assert_eq!((args.pair.seed, args.quiet), (7, true));
        assert_eq!(args.command, ["cmd", "--loss"]);
        assert_eq!(parse_line("--clean --mtu 9000").unwrap().pair.model, None);
    }

    #[test]
    fn bad_input() {
        for line in ["--loss", "--mtu x", "cmd", "--at 5s", "--at 1s:frob", "--frob 1"] {
            assert!(parse_line(line).is_err(), "{line}");
        }
        for line in ["--names a", "--sysctl a", "--clean --loss 1%", "--clean --at 1s:down"] {
            assert!(parse_line(line).is_err(), "{line}");
        }
    }
}
