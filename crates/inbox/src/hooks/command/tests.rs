use std::path::PathBuf;

use super::super::rig::{LONG, Scratch, run, runs, sh, until, until_async};
use super::super::tail::KEPT;
use super::*;
use crate::options::{HookAction, HookOptions, HookValue};

fn text(ran: &Ran) -> &str {
    std::str::from_utf8(&ran.output).unwrap()
}

fn with_variable(hook: HookOptions, name: &str, value: HookValue) -> HookOptions {
    let HookAction::Command(mut command) = hook.action else { panic!("no command") };
    command.environment.push((name.to_owned(), value));
    HookOptions { action: HookAction::Command(command), ..hook }
}

#[tokio::test]
async fn it_gets_the_object_a_small_environment_and_the_datasets_folder() {
    let scratch = Scratch::new();
    let hook =
        sh("index", "cat; echo; pwd; env | grep -v '^_=\\|^PWD=\\|^SHLVL=\\|^OLDPWD=' | sort");
    let hook = with_variable(hook, "LIMS", HookValue::Plain("http://lims".to_owned()));
    let ran = run(&hook, scratch.path(), "{\"id\":\"0id\"}").await;
    assert_eq!(ran.ended, Ended::Exited(0));
    let path = scratch.path().to_str().unwrap();
    let expected = [
        "{\"id\":\"0id\"}",
        path,
        "HAUL_DATASET_ID=0id",
        &format!("HAUL_DATASET_PATH={path}"),
        "HAUL_EVENT=published",
        "HAUL_INBOX=ngs",
        "HOME=/",
        "LANG=C.UTF-8",
        "LIMS=http://lims",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "",
    ];
    assert_eq!(text(&ran), expected.join("\n"));
}

#[tokio::test]
async fn how_it_ended_is_told() {
    let check = async |script: &str, expected: Ended| {
        let ran = run(&sh("index", script), std::path::Path::new("/"), "{}").await;
        assert_eq!(ran.ended, expected, "{script}");
    };
    check("exit 0", Ended::Exited(0)).await;
    check("exit 3", Ended::Exited(3)).await;
    check("kill -TERM $$", Ended::Signalled(15)).await;
    // One that has closed all its pipes is waited for like any other.
    check("exec <&- >&- 2>&-; sleep 0.1; exit 4", Ended::Exited(4)).await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let check = async |arguments: &[&str], path: &str, expected: &str| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let command = HookCommand { arguments, ..HookCommand::default() };
        let hook = HookOptions::new("index", HookAction::Command(command));
        let Ended::Failed(reason) = run(&hook, path.as_ref(), "{}").await.ended else {
            panic!("it ran: {arguments:?}", arguments = hook.action);
        };
        assert!(reason.contains(expected), "{reason}");
    };
    check(&["/no/such/program"], "/", "cannot start /no/such/program: No such file").await;
    check(&["/etc"], "/", "cannot start /etc: Permission denied").await;
    check(&["/bin/sh"], "/no/such/folder", "/no/such/folder").await;
    check(&["/bin/echo", "a\0b"], "/", "cannot start /bin/echo").await;
    check(&[], "/", "no program").await;
    let missing = HookValue::File(PathBuf::from("/no/such/secret"));
    let hook = with_variable(sh("index", "exit 0"), "TOKEN", missing);
    let ran = run(&hook, "/".as_ref(), "{}").await;
    assert!(ran.words().contains("/no/such/secret"), "{}", ran.words());
}

#[tokio::test]
async fn one_that_does_not_read_holds_nobody_up() {
    let body = "x".repeat(4 << 20);
    let check = async |script: &str, expected: i32| {
        let ran = run(&sh("index", script), "/".as_ref(), &body).await;
        assert_eq!(ran.ended, Ended::Exited(expected), "{script}");
    };
    check("exit 5", 5).await;
    check("exec <&-; sleep 0.1; exit 6", 6).await;
    check("head -c 100000 > /dev/null; exit 7", 7).await;
    // It writes before it reads, more than a pipe holds, and then reads all.
    check("head -c 300000 /dev/zero; [ $(wc -c) = 4194304 ] && exit 8", 8).await;
}

#[tokio::test]
async fn the_end_of_what_it_writes_is_kept_whole() {
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo last >&2; echo word";
    let ran = run(&sh("index", script), "/".as_ref(), "{}").await;
    assert_eq!(ran.ended, Ended::Exited(0));
    assert!(ran.output.len() > KEPT && ran.output.len() < KEPT + 100, "{}", ran.output.len());
    assert!(
        text(&ran).starts_with('(') && text(&ran).contains("last") && text(&ran).contains("word")
    );
    assert_eq!(ran.said, b"last\n");
    // Twice the beginning of standard error would not fit into a reason.
    let ran = run(&sh("index", "head -c 9000 /dev/zero >&2"), "/".as_ref(), "{}").await;
    assert_eq!((ran.said.len(), ran.output.len()), (SAID, 9_000));
}

#[tokio::test]
async fn secrets_come_from_files_and_are_not_kept() {
    let scratch = Scratch::new();
    let token = scratch.write("token", "v3ry s3cret\n");
    let hook = with_variable(
        sh("index", "echo \"<$TOKEN>\"; echo \"$TOKEN\" >&2; exit 1"),
        "TOKEN",
        HookValue::File(token),
    );
    let ran = run(&hook, scratch.path(), "{}").await;
    assert!(text(&ran).contains("<(secret)>"), "{}", text(&ran));
    assert_eq!(ran.said, b"(secret)\n");
    assert!(!format!("{hook:?}").contains("v3ry"));
}

#[tokio::test]
async fn what_it_leaves_behind_ends_with_it_and_its_pipes_are_not_waited_for() {
    let scratch = Scratch::new();
    let ran = run(&sh("index", "sleep 1000 & echo $!"), scratch.path(), "{}").await;
    assert_eq!(ran.ended, Ended::Exited(0));
    let process = text(&ran).to_owned();
    until("the end of the process left behind", || !runs(&process));

    // One that has left the group lives on, and holds our pipes; nobody waits for it.
    let script = "setsid sh -c 'echo $$ > pid; exec sleep 1000' & while ! [ -s pid ]; do sleep 0.01; done; exit 3";
    let ran = run(&sh("index", script), scratch.path(), "{}").await;
    assert_eq!(ran.ended, Ended::Exited(3));
    let process = scratch.read("pid");
    assert!(runs(&process));
    let id = Pid::from_raw(process.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(id, Signal::KILL).unwrap();
}

#[tokio::test]
async fn one_that_takes_too_long_is_killed_with_its_children() {
    let scratch = Scratch::new();
    let script =
        "trap '' TERM; sleep 1000 & echo $! > pids; echo $$ >> pids; echo far; yes > /dev/null";
    // A machine that is too busy to get that far in the time gets more of it.
    for tenths in [2, 10, 50, 250, 1_000] {
        let hook =
            HookOptions { timeout: LONG.mul_f64(tenths as f64 / 1_200.0), ..sh("index", script) };
        let ran = run(&hook, scratch.path(), "{}").await;
        assert_eq!(ran.ended, Ended::TimedOut("it was killed"));
        let pids = scratch.read("pids");
        for process in pids.lines() {
            until("the end of what took too long", || !runs(process));
        }
        if pids.lines().count() == 2 {
            assert_eq!(text(&ran), "far\n");
            return;
        }
    }
    panic!("it never got far");
}

#[tokio::test]
async fn one_that_writes_for_ever_is_bounded() {
    let hook = HookOptions { timeout: Duration::from_millis(300), ..sh("index", "yes") };
    let ran = run(&hook, "/".as_ref(), "{}").await;
    assert_eq!(ran.ended, Ended::TimedOut("it was killed"));
    assert!(ran.output.len() < KEPT + 100);
}

#[tokio::test]
async fn dropped_it_ends_what_it_began() {
    let scratch = Scratch::new();
    let hook = sh("index", "sleep 1000 & echo $! > child; echo $$ > own; wait");
    let path = scratch.path().to_owned();
    let task = tokio::spawn(async move { run(&hook, &path, "{}").await });
    until_async("both processes", || {
        !scratch.read("child").is_empty() && !scratch.read("own").is_empty()
    })
    .await;
    let processes = [scratch.read("child"), scratch.read("own")];
    assert!(processes.iter().all(|process| runs(process)));
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    until_async("the end of both", || !processes.iter().any(|process| runs(process))).await;
}
