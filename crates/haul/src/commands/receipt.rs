//! `haul receipt`: what a receipt says, whether it is genuine, and whether a tree is what it says.

use std::path::Path;

use anyhow::{Context, Result};
use files::{Name, RelPath};
use link::PublicKey;
use transfer::receipt::{Receipt, Statement};
use tree::{MeasureOptions, Measured, WalkRoot, tree_digest_as};

use crate::args::ReceiptCommand;
use crate::keys;
use crate::landing::{self, Ambient};
use crate::render::{self, table};
use crate::report::{Code, Failure};
use crate::state::{AUTHORIZED_KEYS, KNOWN_HOSTS, Places};

/// A receipt lists at most a few hundred names.
const MAX_RECEIPT_BYTES: u64 = 1024 * 1024;
/// Unreadable entries that are named.
const MOST_NAMED: usize = 20;

/// Carries the command out.
pub fn run(command: ReceiptCommand) -> Result<Code> {
    match command {
        ReceiptCommand::Show { file } => {
            let receipt = read(&file)?;
            render::print_line(table::receipt(&receipt.statement).trim_end());
            Ok(Code::Done)
        }
        ReceiptCommand::Verify { file, tree, signer } => {
            let receipt = read(&file)?;
            let statement = &receipt.statement;
            let signed = check_signer(statement, signer.as_deref())?;
            let same = match tree {
                Some(tree) => check_tree(statement, &tree)?,
                None => true,
            };
            Ok(if signed && same { Code::Done } else { Code::Partial })
        }
    }
}

fn read(file: &Path) -> Result<Receipt> {
    let bytes = files::File::open_ambient(file)?.read_whole(MAX_RECEIPT_BYTES)?;
    Receipt::verify(&bytes).with_context(|| format!("{} proves nothing", files::escape_path(file)))
}

/// Says who signed, and whether that is who should have.
fn check_signer(statement: &Statement, wanted: Option<&str>) -> Result<bool> {
    let key = &statement.target;
    render::print_line(&format!("signature   good, by {} ({})", key.fingerprint(), whose(key)?));
    let Some(wanted) = wanted else { return Ok(true) };
    let wanted = wanted.trim();
    let is_wanted = match PublicKey::parse_line(wanted) {
        Ok((line, _comment)) => line == *key,
        Err(_) if wanted.starts_with("SHA256:") => wanted == key.fingerprint(),
        Err(error) => {
            let text = format!("--signer is neither a fingerprint nor a key line: {error}");
            return Err(Failure::new(Code::Usage, text).into());
        }
    };
    render::print_line(match is_wanted {
        true => "signer      is the one you named",
        false => "signer      IS NOT the one you named",
    });
    Ok(is_wanted)
}

/// Where this machine knows a key from. A machine without any keys knows nobody, and gets none here.
fn whose(key: &PublicKey) -> Result<String> {
    let places = Places::from_environment()?;
    if places.existing_identity()?.is_some_and(|own| own.public_key() == *key) {
        return Ok("this machine".to_owned());
    }
    let hosts = keys::known_hosts(&places.read_list(KNOWN_HOSTS)?);
    if let Some(host) = hosts.iter().find(|host| host.key == *key) {
        return Ok(format!("known here as {}", crate::address::bare(&host.target)));
    }
    let allowed = link::AuthorizedKeys::parse(&places.read_list(AUTHORIZED_KEYS)?);
    if let Some((_, comment)) = allowed.keys().iter().find(|(known, _)| known == key) {
        return Ok(format!("allowed here as {}", files::escape(comment.as_bytes())));
    }
    Ok("a key that is not known here".to_owned())
}

/// Reads the tree and says whether it is the one that the receipt speaks of.
fn check_tree(statement: &Statement, path: &Path) -> Result<bool> {
    let found = measure(statement, path)?;
    for problem in found.problems.iter().take(MOST_NAMED) {
        render::tell(&format!("haul: {}: {:#}", problem.path, SourceChain(&problem.error)));
    }
    if found.problem_count > 0 {
        render::print_line(&format!(
            "tree        CANNOT BE CHECKED: {} could not be read",
            crate::units::count(found.problem_count, "thing")
        ));
        return Ok(false);
    }
    let digests = found.digest.finish();
    let is_same = digests.content == statement.tree.content;
    if !is_same {
        render::print_line(&format!(
            "tree        IS NOT the one of the receipt\n\
             expected    {} entries, {} bytes in files, content {}\n\
             found       {} entries, {} bytes in files, content {}",
            statement.tree.records,
            statement.totals.bytes_present,
            statement.tree.content,
            digests.records,
            found.counts.bytes,
            digests.content
        ));
        return Ok(false);
    }
    let counts = &found.counts;
    render::print_line(&format!(
        "tree        is what the receipt says: {}, {}",
        crate::units::count(counts.files, "file"),
        crate::units::bytes(counts.bytes)
    ));
    let t = &statement.totals;
    if t.failed > 0 || t.skipped > 0 {
        render::print_line(&format!(
            "note        of what was to be sent, {} failed and {} skipped, and are not part of this",
            if t.failed == 1 { "1 entry".to_owned() } else { format!("{} entries", t.failed) },
            t.skipped
        ));
    }
    if digests.attributes != statement.tree.attributes {
        render::print_line(
            "attributes  differ: permissions or times were changed since, the content was not",
        );
    }
    Ok(true)
}

/// Reads what the receipt speaks of. Its records begin with the names that were sent, so a folder that
/// bears another name by now is read as if it still had the old one.
fn measure(statement: &Statement, path: &Path) -> Result<Measured> {
    let options = MeasureOptions::default();
    let roots: Vec<Name> =
        statement.roots.iter().map(|root| unescape(root)).collect::<Result<_>>()?;
    let opened = landing::ambient(path)?;
    if statement.root_count > roots.len() as u64 {
        let text = format!(
            "the receipt names {} of the {} things that were sent, so a tree cannot be compared with it",
            roots.len(),
            statement.root_count
        );
        return Err(Failure::new(Code::Usage, text).into());
    }
    let inside = || WalkRoot::Inside(RelPath::root());
    match (roots.as_slice(), opened) {
        ([], Ambient::Folder(dir, _)) => {
            Ok(tree_digest_as(&dir, inside(), &RelPath::root(), &options)?)
        }
        ([one], Ambient::Folder(dir, _)) => {
            Ok(tree_digest_as(&dir, inside(), &RelPath::from(one), &options)?)
        }
        ([one], Ambient::Entry(dir, own)) => {
            Ok(tree_digest_as(&dir, WalkRoot::Entry(own), &RelPath::from(one), &options)?)
        }
        (several, Ambient::Folder(dir, _)) => {
            let mut all = Measured::default();
            for name in several {
                let start = WalkRoot::Entry(name.clone());
                all.merge(tree_digest_as(&dir, start, &RelPath::from(name), &options)?);
            }
            Ok(all)
        }
        (_, Ambient::Entry(..)) => {
            let shown = files::escape_path(path);
            Err(Failure::new(Code::Usage, format!("{shown} is no folder")).into())
        }
    }
}

/// The bytes of a name that was escaped by `files::escape`.
fn unescape(text: &str) -> Result<Name> {
    let bytes = unescaped(text).context("a name in the receipt is malformed")?;
    Name::new(bytes).context("a name in the receipt is malformed")
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let kind = rest.chars().next()?;
        rest = &rest[kind.len_utf8()..];
        match kind {
            '\\' => bytes.push(b'\\'),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'x' => {
                bytes.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
                rest = &rest[2..];
            }
            'u' => {
                let end = rest.find('}')?;
                let code = u32::from_str_radix(rest.strip_prefix('{')?.get(..end - 1)?, 16).ok()?;
                let character = char::from_u32(code)?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[end + 1..];
            }
            _ => return None,
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// An error with its causes in one line.
struct SourceChain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for SourceChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
