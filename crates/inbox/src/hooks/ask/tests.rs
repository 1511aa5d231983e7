use std::path::Path;
use std::time::Duration;

use super::super::rig::{Scratch, Server, posts, sh};
use super::*;

async fn ask(hook: &HookOptions) -> Result<(), Refused> {
    Asker::new(4, Surroundings::default()).ask(hook, "ngs", "{\"name\":\"run 7\"}").await
}

fn no(reason: &str) -> Result<(), Refused> {
    Err(Refused::No { reason: reason.to_owned() })
}

/// What the operator is told; what the client is told says nothing of it.
fn detail(answer: Result<(), Refused>) -> String {
    let Err(refused) = answer else { panic!("it was taken") };
    assert_eq!(refused.to_string(), "the inbox cannot judge offers now; try again later");
    let Refused::Unable { detail } = refused else { panic!("{refused:?}") };
    detail
}

#[tokio::test]
async fn a_program_says_yes_or_no_and_all_else_is_neither() {
    assert_eq!(ask(&sh("lims", "grep -q 'run 7'")).await, Ok(()));
    assert_eq!(
        ask(&sh("lims", "echo ignored; echo 'no sample \x1b[1m7' >&2; echo more >&2; exit 1"))
            .await,
        no("no sample  [1m7")
    );
    assert_eq!(
        ask(&sh("lims", "exit 1")).await,
        no("the inbox does not take it, and gives no reason")
    );
    let said = detail(ask(&sh("lims", "echo 'no \x07database' >&2; exit 2")).await);
    assert_eq!(said, "hook lims of inbox ngs cannot judge: exited with 2: no \\x07database");
    assert!(detail(ask(&sh("lims", "kill -9 $$")).await).contains("signal 9"));
    let slow = HookOptions { timeout: Duration::from_millis(100), ..sh("lims", "sleep 1000") };
    assert!(detail(ask(&slow).await).contains("longer than its timeout"));
    let scratch = Scratch::new();
    // A program that cannot be started is no answer either.
    let mut hook = sh("lims", "");
    let crate::HookAction::Command(command) = &mut hook.action else { panic!("no command") };
    command.arguments = vec![scratch.path().join("missing").display().to_string()];
    assert!(detail(ask(&hook).await).contains("cannot start"));
}

#[tokio::test]
async fn a_webhook_says_yes_or_no_and_all_else_is_neither() {
    let check = async |answer: &'static str| {
        let server = Server::saying(answer);
        let answer = ask(&posts("lims", server.webhook())).await;
        let request = server.requests().remove(0);
        assert!(request.ends_with("{\"name\":\"run 7\"}"), "{request}");
        // There is no dataset yet by which a repeated question could be known.
        assert!(!request.to_lowercase().contains("idempotency-key"), "{request}");
        answer
    };
    assert_eq!(check("HTTP/1.1 204 Fine\r\n\r\n").await, Ok(()));
    assert_eq!(check("HTTP/1.1 422 No\r\n\r\nno sample 7\nmore").await, no("no sample 7"));
    assert!(detail(check("HTTP/1.1 500 Oh\r\n\r\n<html>").await).contains("answered 500"));
    assert!(
        detail(check("HTTP/1.1 302 Go\r\nLocation: /x\r\n\r\n").await).contains("answered 302")
    );
    assert!(detail(check("HTTP/1.1 429 Slow\r\n\r\n").await).contains("answered 429"));
    assert!(detail(check("nonsense").await).contains("cannot judge"));
}

#[tokio::test]
async fn no_more_are_asked_at_once_than_may_be() {
    let scratch = Scratch::new();
    let asker = Asker::new(1, Surroundings::default());
    let mark = |path: &Path| {
        format!("echo x > {0}/begun; while ! [ -e {0}/go ]; do sleep 0.01; done", path.display())
    };
    let first = sh("lims", &mark(scratch.path()));
    let brief = HookOptions { timeout: Duration::from_millis(50), ..sh("lims", "exit 0") };
    let first = asker.ask(&first, "ngs", "{}");
    let second = async {
        super::super::rig::until_async("the first", || !scratch.read("begun").is_empty()).await;
        let answer = asker.ask(&brief, "ngs", "{}").await;
        scratch.write("go", "");
        answer
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, Ok(()));
    assert!(detail(second).contains("too many"));
    assert_eq!(asker.ask(&sh("lims", "exit 0"), "ngs", "{}").await, Ok(()));
}

/// Each that waits holds a thread, and a client may offer as much as it likes.
#[tokio::test]
async fn so_many_wait_to_be_judged_and_no_more() {
    let scratch = Scratch::new();
    let asker = std::sync::Arc::new(Asker::new(1, Surroundings::default()));
    let go = format!("while ! [ -e {}/go ]; do sleep 0.01; done", scratch.path().display());
    let slow = sh("lims", &go);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..=WAITING {
        let (asker, slow) = (asker.clone(), slow.clone());
        asked.spawn(async move { asker.ask(&slow, "ngs", "{}").await });
    }
    super::super::rig::until_async("all wait", || asker.room.available_permits() == 0).await;
    assert!(detail(asker.ask(&slow, "ngs", "{}").await).contains("too many offers"));
    std::fs::write(scratch.path().join("go"), b"").unwrap();
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap(), Ok(()));
    }
    assert_eq!(asker.ask(&slow, "ngs", "{}").await, Ok(()));
}
