//! `haul diode key`: the lines that are carried by hand.

use anyhow::Result;
use diode::{TrustLine, receiver_key};
use serde_json::json;

use super::door;
use super::home::{Home, now_ms};
use crate::args::DiodeKeyCommand;
use crate::keys;
use crate::render;
use crate::report::{Code, Failure};

pub fn run(home: &Home, command: DiodeKeyCommand) -> Result<Code> {
    match command {
        DiodeKeyCommand::Show { renew, fingerprint } => show(home, renew, fingerprint)?,
        DiodeKeyCommand::Trust { line } => trust(home, &line.join(" "))?,
        DiodeKeyCommand::List => list(home)?,
        DiodeKeyCommand::Revoke { which } => revoke(home, &which)?,
    }
    Ok(Code::Done)
}

fn show(home: &Home, renew: bool, fingerprint: bool) -> Result<()> {
    let identity = home.places.identity()?.public_key();
    if renew && door::ask(&home.sends()?, &json!({ "do": "status" }))?.is_some() {
        return Err(Failure::new(
            Code::Usage,
            "a sender of this name runs, which knows the old line",
        )
        .hint("stop it, renew the line, carry it to the receivers, and start it again")
        .into());
    }
    let mut epochs = home.epochs()?;
    let epoch = if renew { epochs.raise_floor(now_ms())? } else { epochs.floor() };
    let receives = receiver_key(&home.receives()?)?;
    let line = TrustLine { identity, receives, epoch, name: keys::own_comment() };
    render::print_line(&if fingerprint { line.fingerprint() } else { line.to_line() });
    Ok(())
}

fn trust(home: &Home, line: &str) -> Result<()> {
    let mut text = line.to_owned();
    if text == "-" {
        text.clear();
        std::io::stdin().read_line(&mut text)?;
    }
    let line = TrustLine::parse(&text).map_err(|error| {
        Failure::new(Code::Usage, error.to_string())
            .hint("the line is what `haul diode key show` prints on the other side, in quotes")
    })?;
    if line.identity == home.places.identity()?.public_key() {
        let text = "this is this machine's own line";
        return Err(Failure::new(Code::Usage, text).hint("carry it to the other side").into());
    }
    let mut lines = home.trusted()?;
    let before = lines.len();
    lines.retain(|known| known.identity != line.identity);
    let told = if lines.len() < before { "is told anew" } else { "is trusted" };
    let who = format!("{} ({})", named(&line), line.fingerprint());
    lines.push(line);
    home.write_trusted(&lines)?;
    render::tell(&format!("{who} {told}: {}", home.shown_list()));
    Ok(())
}

fn named(line: &TrustLine) -> String {
    match &*line.name {
        "" => "a machine without a name".to_owned(),
        name => files::escape(name.as_bytes()).to_string(),
    }
}

fn list(home: &Home) -> Result<()> {
    let lines = home.trusted()?;
    if lines.is_empty() {
        render::print_line("nobody yet: haul diode key trust 'LINE'");
    }
    for line in lines {
        render::print_line(&format!("{}  {}", line.fingerprint(), named(&line)));
    }
    Ok(())
}

fn revoke(home: &Home, which: &str) -> Result<()> {
    let lines = home.trusted()?;
    // Events of a receiver tell that of the key that signs.
    let is_meant = |line: &&TrustLine| {
        [&line.fingerprint(), &line.identity.fingerprint(), &line.name].contains(&&which.to_owned())
    };
    let (gone, kept): (Vec<_>, Vec<_>) = lines.iter().partition(is_meant);
    if gone.is_empty() {
        let text =
            format!("no machine of this name or fingerprint is trusted in {}", home.shown_list());
        return Err(Failure::new(Code::Usage, text)
            .hint("to see them: haul diode key list")
            .into());
    }
    home.write_trusted(&kept.into_iter().cloned().collect::<Vec<_>>())?;
    for line in gone {
        render::tell(&format!("{} is trusted no longer", named(line)));
    }
    Ok(())
}
