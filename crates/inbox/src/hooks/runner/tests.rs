use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::rig::{LONG, Scratch, Server, posts, runs, sh, until, until_async};
use super::super::verdict::Ended;
use super::*;
use crate::catalogue::outbox::{HookEvent, HookRow, HookState, Telling};

/// A database on disk, opened anew as after a start.
fn open(scratch: &Scratch) -> Arc<Mutex<Connection>> {
    let db = Connection::open(scratch.path().join("catalogue.db")).unwrap();
    db.busy_timeout(Duration::from_secs(60)).unwrap();
    outbox::create(&db).unwrap();
    Arc::new(Mutex::new(db))
}

fn publish(books: &Mutex<Connection>, path: &Path, dataset: &str, hooks: &[&str]) {
    let body = format!("{{\"id\":\"{dataset}\"}}");
    let telling = Telling {
        dataset,
        event: HookEvent::Published,
        inbox: "ngs",
        path: Some(path),
        body: &body,
    };
    let add = |db: &mut Connection| {
        let transaction = db.transaction()?;
        outbox::add(&transaction, &telling, hooks.iter().copied(), now_ms())?;
        transaction.commit()
    };
    books.with(add).unwrap();
}

fn rows(books: &Mutex<Connection>, dataset: &str) -> Vec<HookRow> {
    books.with(|db| outbox::of(db, dataset)).unwrap()
}

fn states(books: &Mutex<Connection>, dataset: &str) -> Vec<HookState> {
    rows(books, dataset).into_iter().map(|row| row.state).collect()
}

fn all_done(books: &Mutex<Connection>, datasets: &[&str]) -> bool {
    let mut states = datasets.iter().flat_map(|dataset| states(books, dataset));
    states.all(|state| state == HookState::Done)
}

fn options(hooks: Vec<HookOptions>) -> HooksOptions {
    let grace = Duration::ZERO;
    HooksOptions { hooks: vec![("ngs".to_owned(), hooks)], grace, ..HooksOptions::default() }
}

/// A hook that notes in `FOLDER/log` which dataset it was run for.
fn notes(name: &str) -> HookOptions {
    sh(name, &format!("read line; echo \"{name} $HAUL_DATASET_ID $line\" >> log"))
}

#[tokio::test]
async fn all_hooks_run_in_their_order_and_the_bell_wakes_them() {
    let scratch = Scratch::new();
    let books = open(&scratch);
    publish(&books, scratch.path(), "a", &["second", "first"]);
    let options = options(vec![notes("first"), notes("second")]);
    let bell = options.bell.clone();
    let hooks = Hooks::start(books.clone(), options).await.unwrap();
    until_async("both hooks of a", || all_done(&books, &["a"])).await;
    let log = "second a {\"id\":\"a\"}\nfirst a {\"id\":\"a\"}\n";
    assert_eq!(scratch.read("log"), log);
    publish(&books, scratch.path(), "b", &["first"]);
    bell.ring();
    until_async("the hook of b", || all_done(&books, &["b"])).await;
    assert_eq!(scratch.read("log"), format!("{log}first b {{\"id\":\"b\"}}\n"));
    hooks.stop().await;
}

#[tokio::test]
async fn hooks_of_other_datasets_run_beside_one_that_takes_long() {
    let scratch = Scratch::new();
    let books = open(&scratch);
    for dataset in ["a", "b", "c", "d", "e"] {
        publish(&books, scratch.path(), dataset, &["waits", "quick"]);
    }
    let waits = sh("waits", "echo x >> begun; while ! [ -e go ]; do sleep 0.01; done");
    let options = options(vec![waits, notes("quick")]);
    let bell = options.bell.clone();
    let hooks = Hooks::start(books.clone(), options).await.unwrap();
    // All but one of the four may be taken by one hook; the fourth is left for others.
    until_async("three that wait", || scratch.read("begun") == "x\nx\nx\n").await;
    publish(&books, scratch.path(), "f", &["quick"]);
    bell.ring();
    until_async("the quick one", || all_done(&books, &["f"])).await;
    assert_eq!(scratch.read("begun"), "x\nx\nx\n");
    scratch.write("go", "");
    until_async("all others", || all_done(&books, &["a", "b", "c", "d", "e"])).await;
    hooks.stop().await;
}

#[tokio::test]
async fn what_fails_is_told_tried_again_and_in_the_end_left_to_people() {
    let scratch = Scratch::new();
    let books = open(&scratch);
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let sink = Sink::new(move |event| {
        let Event::Warning { text } = event else { return };
        heard.lock().unwrap().push(text.clone());
    });
    let server = Server::saying("HTTP/1.1 503 Busy\r\n\r\ncome \x1b again");
    publish(&books, scratch.path(), "a", &["mail", "quick"]);
    let mail = HookOptions { tries: 2, ..posts("mail", server.webhook()) };
    let options = HooksOptions { sink, ..options(vec![mail, notes("quick")]) };
    let bell = options.bell.clone();
    let hooks = Hooks::start(books.clone(), options).await.unwrap();
    until_async("the first failure", || {
        states(&books, "a") == [HookState::Failing, HookState::Done]
    })
    .await;
    let row = &rows(&books, "a")[0];
    assert_eq!((row.tries, &row.outcome[..]), (1, "answered 503"));
    assert_eq!(row.output, b"503 Service Unavailable\ncome \x1b again");
    let wait = row.next_ms.unwrap() - row.changed_ms;
    assert!((5_000..=10_000).contains(&wait), "{wait}");

    // Its time comes.
    books.with(|db| db.execute("update hook_run set next_ms = 0", [])).unwrap();
    bell.ring();
    until_async("the last try", || states(&books, "a")[0] == HookState::Stuck).await;
    assert_eq!(server.requests().len(), 2);
    let keys = server.requests().into_iter().map(|request| {
        request.lines().find(|line| line.starts_with("idempotency-key")).unwrap().to_owned()
    });
    let keys: Vec<String> = keys.collect();
    assert_eq!(keys[0], keys[1]);

    books.with(|db| outbox::retry(db, "a", now_ms())).unwrap();
    bell.ring();
    until_async("the try by hand", || server.requests().len() == 3).await;
    until_async("its failure", || states(&books, "a")[0] == HookState::Failing).await;
    hooks.stop().await;
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("hook mail of inbox ngs failed for dataset a, try 1: answered 503; it is tried again in "), "{told:?}");
    assert!(told[1].ends_with("run: haul inbox retry-hooks a"), "{told:?}");
}

#[tokio::test]
async fn stopped_it_ends_what_runs_which_runs_again_after_the_next_start() {
    let scratch = Scratch::new();
    let books = open(&scratch);
    publish(&books, scratch.path(), "a", &["waits"]);
    let script = "echo $$ >> begun; while ! [ -e go ]; do sleep 0.01; done";
    let hooks = Hooks::start(books.clone(), options(vec![sh("waits", script)])).await.unwrap();
    until_async("the hook", || scratch.read("begun").ends_with('\n')).await;
    hooks.stop().await;
    let first = scratch.read("begun");
    until("the end of the hook", || !runs(&first));
    assert_eq!(states(&books, "a"), [HookState::Waiting]);
    scratch.write("go", "");
    let hooks = Hooks::start(books.clone(), options(vec![sh("waits", script)])).await.unwrap();
    until_async("its second run", || all_done(&books, &["a"])).await;
    assert_eq!(scratch.read("begun").lines().count(), 2);
    hooks.stop().await;
}

#[tokio::test]
async fn stopped_with_patience_it_lets_what_runs_end() {
    let scratch = Scratch::new();
    let books = open(&scratch);
    publish(&books, scratch.path(), "a", &["waits", "never"]);
    let script = "echo x >> begun; while ! [ -e go ]; do sleep 0.01; done";
    let options =
        HooksOptions { grace: LONG, ..options(vec![sh("waits", script), notes("never")]) };
    let hooks = Hooks::start(books.clone(), options).await.unwrap();
    until_async("the hook", || scratch.read("begun") == "x\n").await;
    let stop = hooks.stop();
    let go = async {
        tokio::task::yield_now().await;
        scratch.write("go", "");
    };
    tokio::join!(stop, go);
    assert_eq!(states(&books, "a"), [HookState::Done, HookState::Waiting]);
}

#[tokio::test]
async fn a_hook_that_the_configuration_lost_waits_until_it_is_there_again() {
    let scratch = Scratch::new();
    let books = open(&scratch);
    publish(&books, scratch.path(), "a", &["lost", "quick"]);
    let one = options(vec![notes("quick")]);
    let bell = one.bell.clone();
    let hooks = Hooks::start(books.clone(), one).await.unwrap();
    until_async("the other", || states(&books, "a") == [HookState::Removed, HookState::Done]).await;
    // Rows of another configuration that come while it runs are seen as well.
    publish(&books, scratch.path(), "b", &["lost", "quick"]);
    bell.ring();
    until_async("the other of b", || states(&books, "b") == [HookState::Removed, HookState::Done])
        .await;
    hooks.stop().await;
    let both = options(vec![notes("lost"), notes("quick")]);
    let hooks = Hooks::start(books.clone(), both).await.unwrap();
    until_async("all", || all_done(&books, &["a", "b"])).await;
    hooks.stop().await;
    assert_eq!(scratch.read("log").lines().count(), 4);
}

/// A database that is gone after so many calls, as it is for a process that is killed then.
struct Dies {
    books: Arc<Mutex<Connection>>,
    left: AtomicUsize,
}

impl Books for Dies {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let take = |left: usize| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => self.books.with(work),
            Err(_) => Err(rusqlite::Error::UnwindingPanic),
        }
    }
}

#[tokio::test]
async fn killed_between_any_two_steps_every_hook_still_runs() {
    let datasets = ["a", "b"];
    let mut steps = 0;
    loop {
        let scratch = Scratch::new();
        let books = open(&scratch);
        for dataset in datasets {
            publish(&books, scratch.path(), dataset, &["first", "second"]);
        }
        let hooks = || vec![notes("first"), notes("second")];
        let dies = Arc::new(Dies { books: books.clone(), left: AtomicUsize::new(steps) });
        let before = Hooks::start(dies.clone(), options(hooks())).await;
        let survived = if let Ok(before) = before {
            let is_over = || dies.left.load(Ordering::SeqCst) == 0 || all_done(&books, &datasets);
            until_async("the end of the steps", is_over).await;
            before.stop().await;
            all_done(&books, &datasets)
        } else {
            false
        };
        let after = Hooks::start(books.clone(), options(hooks())).await.unwrap();
        until_async("all hooks", || all_done(&books, &datasets)).await;
        after.stop().await;
        for hook in ["first", "second"] {
            for dataset in datasets {
                let line = format!("{hook} {dataset} {{\"id\":\"{dataset}\"}}");
                let log = scratch.read("log");
                assert!(log.lines().any(|other| other == line), "after {steps} steps:\n{log}");
            }
        }
        if survived {
            break;
        }
        steps += 1;
        assert!(steps < 500, "it never came to its end");
    }
    // Each of the four hooks takes a step to begin and one to end at least.
    assert!(steps > 8, "{steps}");
}

/// What the test after this starts as a process of its own. Without a folder there is nothing to do.
#[test]
fn serve_until_killed() {
    let Some(folder) = std::env::var_os("HAUL_TEST_HOOKS").map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let db = Connection::open(folder.join("catalogue.db")).unwrap();
        let hooks = options(vec![waits_and_notes()]);
        let _hooks = Hooks::start(Arc::new(Mutex::new(db)), hooks).await.unwrap();
        std::future::pending::<()>().await;
    });
}

fn waits_and_notes() -> HookOptions {
    let script =
        "echo $$ >> begun; while ! [ -e go ]; do sleep 0.01; done; echo $HAUL_DATASET_ID >> ended";
    sh("waits", script)
}

#[tokio::test]
async fn a_server_that_is_killed_while_a_hook_runs_runs_it_again() {
    let scratch = Scratch::new();
    let books = open(&scratch);
    publish(&books, scratch.path(), "a", &["waits"]);
    let mut server = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["hooks::runner::tests::serve_until_killed", "--exact"])
        .env("HAUL_TEST_HOOKS", scratch.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until_async("the hook", || scratch.read("begun").ends_with('\n')).await;
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(states(&books, "a"), [HookState::Running]);
    // What the killed server had begun goes on, for nobody is there to end it.
    let first = scratch.read("begun");
    let group = rustix::process::Pid::from_raw(first.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();

    scratch.write("go", "");
    let hooks = Hooks::start(books.clone(), options(vec![waits_and_notes()])).await.unwrap();
    until_async("the second run", || all_done(&books, &["a"])).await;
    hooks.stop().await;
    assert_eq!(scratch.read("begun").lines().count(), 2);
    assert_eq!(scratch.read("ended"), "a\n");
    assert_eq!(rows(&books, "a")[0].tries, 2);
}

#[tokio::test]
async fn a_mistake_of_ours_is_a_failure_and_no_endless_loop() {
    let scratch = Scratch::new();
    let books = open(&scratch);
    publish(&books, scratch.path(), "a", &["index"]);
    let shared = Arc::new(Shared { books: books.clone(), options: options(vec![notes("index")]) });
    let due = books.with(|db| outbox::due(db, now_ms(), 1)).unwrap().remove(0);
    books.with(|db| outbox::began(db, &due, now_ms())).unwrap();
    let mut runner = Runner { shared, running: JoinSet::new(), begun: HashMap::new() };
    let task = runner.running.spawn(async { panic!("a mistake, on purpose") });
    runner.begun.insert(task.id(), due);
    let ended = runner.running.join_next_with_id().await.unwrap();
    runner.ended(ended).await;
    let row = rows(&books, "a").remove(0);
    assert_eq!(
        (row.state, &row.outcome[..]),
        (HookState::Failing, "haul itself failed while it ran")
    );
    assert_ne!(Ran::failed("x").ended, Ended::Exited(0));
}
