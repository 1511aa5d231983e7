//! What a job looks like while it runs. A thread of its own takes events and draws, so that a slow
//! terminal holds up nothing but itself; data goes to standard output, all else to standard error.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use events::{Counters, Event, How, Rate, Sink};

use crate::bounds::{self, Here};
use crate::units;

pub mod bar;
pub mod json;
pub mod table;

/// Events that may wait for the drawing thread; then the job waits, so that no line is lost.
const WAITING: usize = 4096;

/// In which form a job is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A line that is redrawn, on a terminal.
    Bar,
    /// A plain line now and then.
    Lines,
    /// One event per line on standard output.
    Json,
    /// Errors only.
    Quiet,
}

impl Style {
    /// What suits the options and where standard error goes.
    pub fn choose(json: bool, quiet: bool) -> Self {
        if json {
            Self::Json
        } else if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            Self::Bar
        } else {
            Self::Lines
        }
    }

    fn every(self) -> Duration {
        match self {
            Self::Bar => Duration::from_millis(100),
            Self::Json => Duration::from_secs(1),
            Self::Lines => Duration::from_secs(10),
            Self::Quiet => Duration::from_secs(3600),
        }
    }
}

enum Note {
    Event(Box<Event>),
    Say(String),
    End,
}

/// How a job is shown.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// In which form.
    pub style: Style,
    /// A line for each file, and what the link does.
    pub verbose: bool,
    /// Nothing is changed, so nothing is said to be.
    pub dry_run: bool,
    /// What was copied is read a second time, and only what differs is told.
    pub verifying: bool,
    /// Which end this machine is.
    pub here: Here,
    /// Warnings that only a verbose job tells: those about sockets come with every lane.
    pub hushed: Vec<String>,
}

/// A job that is being shown; dropping it ends the drawing.
pub struct Render {
    notes: SyncSender<Note>,
    thread: Option<JoinHandle<()>>,
    /// Whether a file that is done may get a line, and not only one that failed.
    names_files: bool,
}

impl Render {
    /// Begins to draw.
    pub fn start(options: RenderOptions, counters: Arc<Counters>) -> Self {
        let (notes, received) = sync_channel(WAITING);
        let names_files = match options.style {
            _ if options.verifying => false,
            Style::Json => true,
            Style::Quiet => false,
            Style::Bar | Style::Lines => options.verbose || options.dry_run,
        };
        let painter = Painter {
            options,
            counters,
            began: Instant::now(),
            rate: Rate::default(),
            is_drawn: false,
            was_cut: false,
            was_moved: false,
        };
        let thread = std::thread::Builder::new().name("render".to_owned());
        // Without the thread the job still runs, and is merely not seen.
        let thread = thread.spawn(move || painter.run(&received)).ok();
        Self { notes, thread, names_files }
    }

    /// Where the job tells its events.
    pub fn sink(&self) -> Sink {
        let (notes, names_files) = (self.notes.clone(), self.names_files);
        Sink::new(move |event| {
            // There is one for each file of a tree, and waking the drawing thread costs more than the file.
            if matches!(event, Event::FileDone { .. }) && !names_files {
                return;
            }
            // After the end nobody listens any more.
            let _ = notes.send(Note::Event(Box::new(event.clone())));
        })
    }

    /// Shows a line that is no event.
    pub fn say(&self, text: impl Into<String>) {
        let _ = self.notes.send(Note::Say(text.into()));
    }
}

impl Drop for Render {
    fn drop(&mut self) {
        let _ = self.notes.send(Note::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Painter {
    options: RenderOptions,
    counters: Arc<Counters>,
    began: Instant,
    rate: Rate,
    is_drawn: bool,
    was_cut: bool,
    was_moved: bool,
}

impl Painter {
    fn run(mut self, notes: &Receiver<Note>) {
        let every = self.options.style.every();
        let mut next = Instant::now() + every;
        loop {
            match notes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Note::Event(event)) => self.event(&event),
                Ok(Note::Say(text)) if self.options.style != Style::Quiet => self.line(&text),
                Ok(Note::Say(_)) => {}
                Ok(Note::End) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next {
                self.tick();
                next = Instant::now() + every;
            }
        }
        self.clear();
    }

    fn tick(&mut self) {
        let snapshot = self.counters.snapshot();
        let now = self.began.elapsed();
        self.rate.observe(now, snapshot.bytes_acknowledged);
        let figures = bar::Figures {
            rate: self.rate.bytes_per_s(now),
            left: snapshot.bytes_left().and_then(|left| self.rate.time_left(now, left)),
            snapshot,
            verifying: self.options.verifying,
        };
        match self.options.style {
            Style::Bar => {
                let line = bar::line(&figures, self.options.here, bar::width());
                self.put(&format!("\r{line}\x1b[K"));
                self.is_drawn = true;
            }
            Style::Lines => {
                let line = bar::line(&figures, self.options.here, usize::MAX);
                self.line(&line);
            }
            Style::Json => print_line(&json::progress(&figures, now)),
            Style::Quiet => {}
        }
    }

    fn event(&mut self, event: &Event) {
        if self.options.verifying && self.differs(event) {
            return;
        }
        if self.options.style == Style::Json
            && let Some(line) = json::event(event)
        {
            print_json(&line);
        }
        let talks = !matches!(self.options.style, Style::Quiet | Style::Json);
        match event {
            // A failure is named whatever the style, for it decides the exit code.
            Event::FileFailed { path, reason } => {
                let reason = files::escape(reason.as_bytes());
                self.line(&format!("haul: {}: {reason}", files::escape(path)));
            }
            Event::FileDone { path, size, how, .. } if talks && self.names(*how) => {
                let done = self.done_word(*how);
                self.line(&format!("{done} {} ({})", files::escape(path), units::bytes(*size)));
            }
            Event::Planned { path, size, why } if talks => {
                let size = units::bytes(*size);
                self.line(&format!("would copy {} ({size}): {}", files::escape(path), reason(why)));
            }
            Event::Extra { path } if talks && (self.options.verbose || self.options.dry_run) => {
                let done = if self.options.dry_run { "would remove" } else { "removed" };
                self.line(&format!("{done} {}", files::escape(path)));
            }
            // It has no place yet.
            Event::Waiting { position: 0, reason, .. } if talks => {
                self.line(&format!("waiting: {}", files::escape(reason.as_bytes())));
            }
            Event::Waiting { position, length, seconds, reason } if talks => {
                let left = seconds.map_or_else(String::new, |seconds| {
                    format!(", about {}", units::duration(Duration::from_secs(seconds)))
                });
                let reason = files::escape(reason.as_bytes());
                self.line(&format!("waiting: place {position} of {length}{left}; {reason}"));
            }
            Event::Admitted { dataset, notes } if talks => {
                self.line(&format!("it is dataset {dataset}"));
                for note in notes {
                    self.line(&format!("note: {}", files::escape(note.as_bytes())));
                }
            }
            Event::LinkLost { reason } if talks => {
                self.was_cut = true;
                let reason = files::escape(reason.as_bytes());
                self.line(&format!("link lost: {reason}; connecting again"));
            }
            Event::LinkRetry { after } if talks && self.options.verbose => {
                self.line(&format!("next try in {}", units::duration(*after)));
            }
            Event::LinkMoved { reason } if talks => {
                self.was_moved = true;
                self.line(&format!("changing lanes: {}", files::escape(reason.as_bytes())));
            }
            Event::LinkUp { peer, address, kind } if talks => {
                if std::mem::take(&mut self.was_cut) {
                    self.line(&format!("link is back, over {kind}; going on"));
                } else if std::mem::take(&mut self.was_moved) {
                    self.line(&format!("going on over {kind}"));
                } else if self.options.verbose {
                    let peer = files::escape(peer.as_bytes());
                    self.line(&format!("connected to {peer} at {address} over {kind}"));
                }
            }
            Event::Bounded { bound } if talks && self.options.verbose => {
                if let Some(words) = bounds::words(*bound, self.options.here) {
                    self.line(&format!("bound by {words}"));
                }
            }
            Event::Warning { text }
                if talks && (self.options.verbose || !self.options.hushed.contains(text)) =>
            {
                self.line(&format!("warning: {}", clean(text)));
            }
            _ => {}
        }
    }

    /// Tells an event of a second reading, if it is about an entry. What differs is named whatever the style, for it
    /// decides the exit code.
    fn differs(&mut self, event: &Event) -> bool {
        let (path, why, reason) = match event {
            Event::Planned { path, why, .. } => (path, second_why(why), None),
            Event::FileFailed { path, reason } => (path, "failed", Some(reason.as_str())),
            Event::FileDone { .. } | Event::Extra { .. } => return true,
            _ => return false,
        };
        if self.options.style == Style::Json {
            print_json(&json::differs(path, why, reason));
        }
        let words = match reason {
            Some(reason) => format!("it cannot be compared: {}", files::escape(reason.as_bytes())),
            None if why == "missing" => "it is missing at the target".to_owned(),
            None => self::reason(why).to_owned(),
        };
        self.line(&format!("differs: {}: {words}", files::escape(path)));
        true
    }

    /// Whether a file that is done gets a line. What a dry run would do has events of its own.
    fn names(&self, how: How) -> bool {
        self.options.verbose && (!self.options.dry_run || how == How::Unchanged)
    }

    fn done_word(&self, how: How) -> &'static str {
        match how {
            How::Unchanged => "unchanged",
            How::Copied => "copied",
            How::Resumed => "resumed",
            How::Linked => "linked",
            _ => "done",
        }
    }

    /// A whole line on standard error, in place of the one that is redrawn.
    fn line(&mut self, text: &str) {
        self.clear();
        self.put(&format!("{text}\n"));
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            self.put("\r\x1b[K");
        }
    }

    fn put(&self, text: &str) {
        // Where standard error is gone there is nobody to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// The word of a dry run for why it would do something, after a copy.
fn second_why(why: &'static str) -> &'static str {
    if why == "new" { "missing" } else { why }
}

/// Why a dry run would do something, in words.
fn reason(why: &str) -> &str {
    match why {
        "new" => "it is new",
        "size" => "its size differs",
        "time" => "its time differs",
        "content" => "its content differs",
        "mode" => "its permissions differ",
        "kind" => "what is there is of another kind",
        other => other,
    }
}

/// Text of several lines, each of them safe to show.
pub fn clean(text: &str) -> String {
    let lines: Vec<String> =
        text.lines().map(|line| files::escape(line.as_bytes()).to_string()).collect();
    lines.join("\n")
}

/// Writes a line of data to standard output. A reader that went away ends the program quietly, as it
/// would end any other.
pub fn print_line(text: &str) {
    let result = {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush())
    };
    if let Err(error) = result
        && error.kind() == std::io::ErrorKind::BrokenPipe
    {
        std::process::exit(141);
    }
}

/// Writes JSON to standard output. What is in it may be anybody's, and may be read at a terminal.
pub fn print_json(json: &str) {
    print_line(&files::escape_json(json));
}

/// Tells the user something on standard error.
pub fn tell(text: &str) {
    let end = if text.ends_with(' ') { "" } else { "\n" };
    let _ = std::io::stderr().write_all(format!("{text}{end}").as_bytes());
}
