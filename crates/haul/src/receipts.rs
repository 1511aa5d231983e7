//! Where the receipts of jobs are kept on this machine.

use std::path::Path;

use anyhow::{Context, Result};
use transfer::receipt::Receipt;

use crate::render;
use crate::state::{self, Places, own_name};

/// Where they are, below the state folder.
const RECEIPTS: &str = "receipts";

/// Writes a receipt where all are kept, and where the user wants it; gives the place to tell.
pub fn keep(
    places: &Places,
    receipt: Option<&[u8]>,
    named: Option<&Path>,
) -> Result<Option<String>> {
    let Some(bytes) = receipt else { return Ok(None) };
    let kept = file(places, bytes);
    if let Some(path) = named {
        state::write_named(path, bytes).context("the copy is done, but not its receipt")?;
        return Ok(Some(files::escape_path(path).to_string()));
    }
    match kept {
        Ok(place) => Ok(Some(place)),
        Err(error) => {
            // The copy is done all the same, and the target machine can be asked again.
            render::tell(&format!("warning: the receipt could not be kept: {error:#}"));
            Ok(None)
        }
    }
}

fn file(places: &Places, bytes: &[u8]) -> Result<String> {
    let statement = Receipt::verify(bytes).context("the receipt cannot be read")?.statement;
    let name = receipt_name(&statement.transfer, statement.ended);
    places.state(RECEIPTS)?.write_private(&own_name(&name), bytes)?;
    let path = places.state_path(RECEIPTS).join(name);
    Ok(files::escape_path(&path).to_string())
}

/// `2027-01-31T120000Z-0123abcd.json`.
fn receipt_name(transfer: &str, ended: u64) -> String {
    let moment = i64::try_from(ended).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    let date = moment.map_or_else(
        || format!("{ended}"),
        |moment| moment.strftime("%Y-%m-%dT%H%M%SZ").to_string(),
    );
    let id: String = transfer.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{date}-{id}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_named_by_time_and_transfer() {
        assert_eq!(receipt_name("0123abcd4567", 0), "1970-01-01T000000Z-0123abcd.json");
        assert_eq!(receipt_name("../..", u64::MAX), format!("{}-.json", u64::MAX));
    }
}
