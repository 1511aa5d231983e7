//! The list of a request that wants only some of what is in a folder.

use std::sync::Arc;
use std::time::Duration;

use files::RelPath;
use link::Lane;
use tree::{Selection, TooLong};

use super::Refused;
use crate::host::{Refusal, SourceRoot};
use crate::message::{MAX_LIST, Opening, RefuseCode, list_cost};
use crate::session::{self, Control};

/// What every peer may have, however many there are.
const LEAST: usize = 1 << 20;
/// How long the next part may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Reads the list, whose parts follow the request. One that is too long is read to its end, so that the one
/// who sends it hears why it is refused.
pub(super) async fn read(
    lane: &Lane,
    control: &mut Control,
    whole: bool,
) -> Result<Option<Arc<Selection>>, Refused> {
    let most = (lane.memory_share() as usize).clamp(LEAST, MAX_LIST);
    let mut all: Vec<RelPath> = Vec::new();
    let mut taken = 0;
    loop {
        let message = session::read(lane, &mut control.1, DEADLINE).await?;
        let Opening::Names { paths, last } = message else {
            return Err(session::unexpected(lane, message).into());
        };
        // Without names it would lead to no end, and nobody sends much more than is ever taken.
        if taken > 2 * MAX_LIST || (paths.is_empty() && !last) {
            return Err(session::unexpected(lane, Opening::Names { paths, last }).into());
        }
        taken += list_cost(paths.iter().map(RelPath::as_bytes));
        match taken > most {
            true => all = Vec::new(),
            false => all.extend(paths),
        }
        if last {
            break;
        }
    }
    if taken > most {
        return Err(too_long(most).into());
    }
    let list = Selection::of(all.into_iter().map(Ok::<_, TooLong>), whole, most);
    Ok(Some(Arc::new(list.map_err(|_| too_long(most))?)))
}

/// The sources, of which only what is listed is wanted.
pub(super) fn listed(
    mut sources: Vec<SourceRoot>,
    only: Option<Arc<Selection>>,
) -> Result<Vec<SourceRoot>, Refusal> {
    let Some(only) = only else { return Ok(sources) };
    match sources.as_mut_slice() {
        [source] if source.name.is_none() => source.only = Some(only),
        _ => {
            let text =
                "a list of names goes with one folder, whose contents are asked for".to_owned();
            return Err(Refusal { code: RefuseCode::NotAFolder, text });
        }
    }
    Ok(sources)
}

fn too_long(most: usize) -> Refusal {
    let text = format!(
        "the list of names is too long for this machine, which takes {} MB of them now: copy in several \
         runs, each with a part of it",
        most / 1_000_000
    );
    Refusal { code: RefuseCode::Exists, text }
}
