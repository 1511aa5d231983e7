//! How commands talk to a sender or receiver that runs on this machine: a socket in its state folder, one JSON object
//! each way. Only its owner can reach it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use files::Dir;
use serde_json::{Value, json};

use crate::state::own_name;

const SOCKET: &str = "control";

/// The longest question: a want-list.
const MOST_QUESTION: u64 = 64 << 20;

/// Nobody is waited for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The socket's path through the open folder, which is short whatever the folder's is.
fn path(dir: &Dir) -> PathBuf {
    format!("/proc/self/fd/{}/{SOCKET}", dir.as_fd().as_raw_fd()).into()
}

/// Answers questions until the process ends.
pub fn open(dir: &Dir, answer: impl Fn(&Value) -> Result<Value> + Send + 'static) -> Result<()> {
    // What a process left that was killed is in the way; one that lives holds the lock of the state.
    match dir.unlink(&own_name(SOCKET)) {
        Err(error) if !error.is_not_found() => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(path(dir)).context("cannot listen for commands")?;
    std::thread::Builder::new()
        .name("diode door".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // One that asks nothing sensible gets no answer.
                let _ = serve(stream, &answer);
            }
        })
        .context("cannot listen for commands")?;
    Ok(())
}

fn serve(stream: UnixStream, answer: &impl Fn(&Value) -> Result<Value>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(MOST_QUESTION)).read_line(&mut line)?;
    let question: Value = serde_json::from_str(&line)?;
    let answer = match answer(&question) {
        Ok(answer) => json!({ "ok": answer }),
        Err(error) => json!({ "error": format!("{error:#}") }),
    };
    writeln!(&stream, "{answer}")?;
    Ok(())
}

/// Asks whoever runs with this state; None if nobody does.
pub fn ask(dir: &Dir, question: &Value) -> Result<Option<Value>> {
    let Ok(mut stream) = UnixStream::connect(path(dir)) else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{question}")?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .context("the process that runs does not answer")?;
    let answer: Value =
        serde_json::from_str(&answer).context("the process that runs answers nonsense")?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => anyhow::bail!("{error}"),
        None => Ok(Some(answer["ok"].clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_by_who_runs_and_by_nobody_else() {
        let scratch = std::env::temp_dir().join(format!("haul-door-{}", std::process::id()));
        let dir = Dir::create_ambient(&scratch, 0o700).unwrap();
        assert_eq!(ask(&dir, &json!({"get": "status"})).unwrap(), None);
        open(&dir, |question| match question["get"].as_str() {
            Some("status") => Ok(json!({ "rate": 5 })),
            _ => anyhow::bail!("what?"),
        })
        .unwrap();
        let answer = ask(&dir, &json!({"get": "status"})).unwrap();
        assert_eq!(answer, Some(json!({ "rate": 5 })));
        assert_eq!(ask(&dir, &json!({})).unwrap_err().to_string(), "what?");
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}
