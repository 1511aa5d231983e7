//! Which hooks are to run for what, and how that went: two tables of the catalogue's database. Rows are added in the
//! transaction that adds what they tell of, so that neither is there without the other. A row ends as *done* and in
//! no other way: one that failed too often, or whose hook the configuration has no more, stays and can be seen.
//!
//! Nothing here reads a clock or runs anything. Times are milliseconds since 1970.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params, params};

/// No hook waits longer than this for its next try.
pub const LONGEST_WAIT_MS: i64 = 3_600_000;

/// What hooks are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookEvent {
    /// A dataset was published.
    Published,
    /// An upload will soon be removed, because its client has not come back.
    Expiring,
}

impl HookEvent {
    /// The word for it, in the table and in what hooks are given.
    pub fn word(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Expiring => "expiring",
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "expiring" => Self::Expiring,
            _ => Self::Published,
        }
    }
}

/// Something to tell hooks of.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// The id of the dataset or upload.
    pub dataset: &'a str,
    /// What happened to it.
    pub event: HookEvent,
    /// In which inbox.
    pub inbox: &'a str,
    /// The dataset's folder, where there is one.
    pub path: Option<&'a Path>,
    /// The JSON object that hooks are given.
    pub body: &'a str,
}

/// How a hook of a dataset stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookState {
    /// It has not run yet, or was cut off by the end of the server.
    Waiting,
    /// It runs, or ran when the server was killed.
    Running,
    /// It said that all is well.
    Done,
    /// It failed, and will be tried again.
    Failing,
    /// It failed so often that it is only tried again by hand.
    Stuck,
    /// The configuration has no such hook any more. It runs once it is there again.
    Removed,
}

impl HookState {
    /// The word for it, in the table and in what is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failing => "failing",
            Self::Stuck => "stuck",
            Self::Removed => "removed",
        }
    }

    fn from_word(word: &str) -> rusqlite::Result<Self> {
        let all =
            [Self::Waiting, Self::Running, Self::Done, Self::Failing, Self::Stuck, Self::Removed];
        let unknown = || rusqlite::Error::InvalidParameterName(format!("hook state {word}"));
        all.into_iter().find(|state| state.word() == word).ok_or_else(unknown)
    }
}

/// How one hook of one dataset stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRow {
    /// The id of the dataset or upload.
    pub dataset: String,
    /// What the hook is told of it.
    pub event: HookEvent,
    /// In which inbox.
    pub inbox: String,
    /// The hook's name.
    pub hook: String,
    /// How it stands.
    pub state: HookState,
    /// How often it was begun.
    pub tries: u32,
    /// When it is tried next, where it is.
    pub next_ms: Option<i64>,
    /// When this last changed.
    pub changed_ms: i64,
    /// How the last try ended, in words; safe to show.
    pub outcome: String,
    /// The end of what it wrote or answered at the last try, as it came: to be escaped where it is shown.
    pub output: Vec<u8>,
}

/// A hook that is to run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The telling's row.
    pub telling: i64,
    /// The id of the dataset or upload.
    pub dataset: String,
    /// What happened to it.
    pub event: HookEvent,
    /// In which inbox.
    pub inbox: String,
    /// The dataset's folder, where there is one.
    pub path: Option<PathBuf>,
    /// The hook's name.
    pub hook: String,
    /// How often it was begun before.
    pub tries: u32,
}

/// How a try went that did not end well, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is tried again at this time.
    At(i64),
    /// It waits for somebody to look at it.
    Stuck,
}

/// Makes the tables where they are missing.
pub fn create(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "create table if not exists hook_telling(
             telling integer primary key,
             dataset text not null,
             event text not null,
             inbox text not null,
             path blob,
             -- null once no hook needs it any more
             body text,
             unique(dataset, event));
         create table if not exists hook_run(
             telling integer not null references hook_telling(telling),
             hook text not null,
             -- in the order of the configuration
             place integer not null,
             state text not null,
             tries integer not null default 0,
             next_ms integer not null,
             changed_ms integer not null,
             outcome text not null default '',
             output blob not null default x'',
             primary key(telling, hook));
         create index if not exists hook_run_next on hook_run(next_ms)
             where state in ('waiting', 'failing');
         create index if not exists hook_run_state on hook_run(state) where state <> 'done';",
    )
}

/// Adds a row for each hook, in the transaction of what they are told of. What was told before is not told again.
pub fn add<'a>(
    transaction: &Transaction<'_>,
    telling: &Telling<'_>,
    hooks: impl IntoIterator<Item = &'a str>,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let mut hooks = hooks.into_iter().peekable();
    if hooks.peek().is_none() {
        return Ok(());
    }
    let path = telling.path.map(|path| path.as_os_str().as_bytes());
    let (event, body) = (telling.event.word(), telling.body);
    let added = transaction.execute(
        "insert into hook_telling(dataset, event, inbox, path, body) values (?1, ?2, ?3, ?4, ?5)
         on conflict do nothing",
        params![telling.dataset, event, telling.inbox, path, body],
    )?;
    if added == 0 {
        return Ok(());
    }
    let id = transaction.last_insert_rowid();
    let mut insert = transaction.prepare(
        "insert into hook_run(telling, hook, place, state, next_ms, changed_ms)
         values (?1, ?2, ?3, 'waiting', ?4, ?4) on conflict do nothing",
    )?;
    for (place, hook) in hooks.enumerate() {
        insert.execute(params![id, hook, place as i64, now_ms])?;
    }
    Ok(())
}

/// To be called before anything runs, with each inbox and hook of the configuration: what ran when the server ended
/// waits again, what is no longer in the configuration is set aside, and what is there again waits again.
pub fn start<'a>(
    db: &mut Connection,
    configured: impl IntoIterator<Item = (&'a str, &'a str)>,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute_batch(
        "create temp table if not exists hook_configured(
             inbox text, hook text, primary key(inbox, hook)) without rowid;
         delete from hook_configured;",
    )?;
    for pair in configured {
        transaction.execute("insert or ignore into hook_configured values (?1, ?2)", pair)?;
    }
    transaction.execute(
        "update hook_run set state = 'waiting', next_ms = ?1, changed_ms = ?1,
                outcome = 'the server ended while it ran'
         where state = 'running'",
        [now_ms],
    )?;
    let is_configured = "exists (select 1 from hook_configured as c, hook_telling as t
                         where t.telling = hook_run.telling and c.inbox = t.inbox and c.hook = hook_run.hook)";
    transaction.execute(
        &format!(
            "update hook_run set state = 'removed', changed_ms = ?1
             where state in ('waiting', 'failing') and not {is_configured}"
        ),
        [now_ms],
    )?;
    transaction.execute(
        &format!(
            "update hook_run set state = 'waiting', next_ms = ?1, changed_ms = ?1
             where state = 'removed' and {is_configured}"
        ),
        [now_ms],
    )?;
    // No wait is planned to be longer, so the clock has been set back.
    transaction.execute(
        "update hook_run set next_ms = min(next_ms, ?1) where state in ('waiting', 'failing')",
        [now_ms.saturating_add(LONGEST_WAIT_MS)],
    )?;
    transaction.commit()
}

/// The hooks that are to run now: of each telling only the first in the order of the configuration, and none while
/// another of it runs. At most `most`, and those of each hook take turns, so that many of one do not hide another.
pub fn due(db: &Connection, now_ms: i64, most: usize) -> rusqlite::Result<Vec<Due>> {
    let mut select = db.prepare(
        "with ready as (
             select telling, hook, tries, next_ms, place,
                    min(place) over (partition by telling) as first
             from hook_run where state in ('waiting', 'failing') and next_ms <= :now)
         select r.telling, t.dataset, t.event, t.inbox, t.path, r.hook, r.tries,
                row_number() over (partition by t.inbox, r.hook order by r.next_ms, r.telling) as turn
         from ready as r join hook_telling as t using (telling)
         where r.place = r.first
           and not exists (select 1 from hook_run as o where o.telling = r.telling and o.state = 'running')
         order by turn, r.next_ms, r.telling limit :most",
    )?;
    let rows = select.query_map(
        named_params! { ":now": now_ms, ":most": i64::try_from(most).unwrap_or(i64::MAX) },
        |row| {
            let path: Option<Vec<u8>> = row.get(4)?;
            Ok(Due {
                telling: row.get(0)?,
                dataset: row.get(1)?,
                event: HookEvent::from_word(&row.get::<_, String>(2)?),
                inbox: row.get(3)?,
                path: path.map(|bytes| std::ffi::OsString::from_vec(bytes).into()),
                hook: row.get(5)?,
                tries: row.get(6)?,
            })
        },
    )?;
    rows.collect()
}

/// When more will be due than is at `now_ms`; none if nothing waits for its time.
pub fn next_due(db: &Connection, now_ms: i64) -> rusqlite::Result<Option<i64>> {
    db.prepare(
        "select min(next_ms) from hook_run where state in ('waiting', 'failing') and next_ms > ?1",
    )?
    .query_row([now_ms], |row| row.get(0))
}

/// Takes a hook that is due: it runs from here on. The object that it is given; none if it is not due any more.
pub fn began(db: &Connection, due: &Due, now_ms: i64) -> rusqlite::Result<Option<String>> {
    let body: Option<Option<String>> = db
        .prepare("select body from hook_telling where telling = ?1")?
        .query_row([due.telling], |row| row.get(0))
        .optional()?;
    let Some(body) = body.flatten() else { return Ok(None) };
    let changed = db
        .prepare(
            "update hook_run set state = 'running', tries = tries + 1, changed_ms = ?3
             where telling = ?1 and hook = ?2 and state in ('waiting', 'failing')",
        )?
        .execute(params![due.telling, due.hook, now_ms])?;
    Ok((changed == 1).then_some(body))
}

/// A hook has done what it is for.
pub fn done(
    db: &Connection,
    due: &Due,
    outcome: &str,
    output: &[u8],
    now_ms: i64,
) -> rusqlite::Result<()> {
    ended(db, due, ("done", now_ms), outcome, output, now_ms)?;
    // What nobody will be given any more would only take room.
    db.prepare(
        "update hook_telling set body = null where telling = ?1 and not exists
             (select 1 from hook_run where telling = ?1 and state <> 'done')",
    )?
    .execute([due.telling])?;
    Ok(())
}

/// A hook has failed.
pub fn failed(
    db: &Connection,
    due: &Due,
    next: Next,
    outcome: &str,
    output: &[u8],
    now_ms: i64,
) -> rusqlite::Result<()> {
    let state = match next {
        Next::At(next_ms) => ("failing", next_ms),
        Next::Stuck => ("stuck", now_ms),
    };
    ended(db, due, state, outcome, output, now_ms)
}

/// A hook was cut off before it could end: it waits again, as after a kill.
pub fn interrupted(db: &Connection, due: &Due, now_ms: i64) -> rusqlite::Result<()> {
    ended(db, due, ("waiting", now_ms), "the server ended while it ran", b"", now_ms)
}

/// The configuration has no such hook: it is set aside until [`start`] finds it there again.
pub fn removed(db: &Connection, due: &Due, now_ms: i64) -> rusqlite::Result<()> {
    db.execute(
        "update hook_run set state = 'removed', changed_ms = ?3
         where telling = ?1 and hook = ?2 and state in ('waiting', 'failing')",
        params![due.telling, due.hook, now_ms],
    )?;
    Ok(())
}

fn ended(
    db: &Connection,
    due: &Due,
    (state, next_ms): (&str, i64),
    outcome: &str,
    output: &[u8],
    now_ms: i64,
) -> rusqlite::Result<()> {
    db.prepare(
        "update hook_run set state = ?3, next_ms = ?4, outcome = ?5, output = ?6, changed_ms = ?7
         where telling = ?1 and hook = ?2 and state = 'running'",
    )?
    .execute(params![due.telling, due.hook, state, next_ms, outcome, output, now_ms])?;
    Ok(())
}

/// Has the hooks of a dataset that failed tried again now, with all their tries before them. How many there are.
pub fn retry(db: &Connection, dataset: &str, now_ms: i64) -> rusqlite::Result<usize> {
    db.execute(
        "update hook_run set state = 'waiting', tries = 0, next_ms = ?2, changed_ms = ?2
         where state in ('failing', 'stuck')
           and telling in (select telling from hook_telling where dataset = ?1)",
        params![dataset, now_ms],
    )
}

/// All hooks of a dataset, in the order in which they run.
pub fn of(db: &Connection, dataset: &str) -> rusqlite::Result<Vec<HookRow>> {
    rows(db, "t.dataset = ?1 order by r.telling, r.place limit 10000", [dataset])
}

/// The hooks that somebody should look at, those that wait for it first, and the oldest of these: stuck, without a
/// place in the configuration, or failing. At most `most`.
pub fn troubled(db: &Connection, most: usize) -> rusqlite::Result<Vec<HookRow>> {
    let which = "r.state in ('stuck', 'removed', 'failing')
                 order by r.state = 'failing', r.changed_ms, r.telling, r.place limit ?1";
    rows(db, which, [i64::try_from(most).unwrap_or(i64::MAX)])
}

fn rows(
    db: &Connection,
    which: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<HookRow>> {
    let mut select = db.prepare(&format!(
        "select t.dataset, t.event, t.inbox, r.hook, r.state, r.tries, r.next_ms, r.changed_ms,
                r.outcome, r.output
         from hook_run as r join hook_telling as t using (telling) where {which}"
    ))?;
    let rows = select.query_map(values, hook_row)?;
    rows.collect()
}

fn hook_row(row: &Row<'_>) -> rusqlite::Result<HookRow> {
    let state = HookState::from_word(&row.get::<_, String>(4)?)?;
    let is_planned = matches!(state, HookState::Waiting | HookState::Failing);
    Ok(HookRow {
        dataset: row.get(0)?,
        event: HookEvent::from_word(&row.get::<_, String>(1)?),
        inbox: row.get(2)?,
        hook: row.get(3)?,
        state,
        tries: row.get(5)?,
        next_ms: if is_planned { Some(row.get(6)?) } else { None },
        changed_ms: row.get(7)?,
        outcome: row.get(8)?,
        output: row.get(9)?,
    })
}

#[cfg(test)]
mod tests;
