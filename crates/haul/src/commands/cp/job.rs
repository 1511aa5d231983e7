//! One job: it is shown while it runs, and told and noted down when it has ended.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Result;
use events::{BoundKind, Event};
use link::{LinkChoice, Pace};
use transfer::TransferError;
use transfer::client::{JobOptions, JobReport};
use transfer::message::Order;

use super::Copy;
use super::verify::Verdict;
use super::words::{link_words, summary};
use crate::bounds::{self, Here};
use crate::contact;
use crate::copy::GIVE_UP_AFTER;
use crate::reach::Around;
use crate::receipts;
use crate::render::{self, Render, RenderOptions, Style, json};
use crate::report::{self, Code, Failure};

impl Copy {
    /// Shows the job while it runs, has both ends read again what it has copied if that is wanted, and tells how it
    /// ended. `start` begins a job with an order.
    pub(super) async fn run_job<F>(
        &self,
        here: Here,
        around: Around,
        order: Order,
        start: impl Fn(Order, JobOptions) -> F,
    ) -> Result<Code>
    where
        F: Future<Output = Result<JobReport, TransferError>>,
    {
        let a = &self.arguments;
        let style = Style::choose(a.json, a.quiet);
        if style == Style::Json {
            let shown = |word: &std::ffi::OsString| files::escape_path(Path::new(word)).to_string();
            let mut sources: Vec<String> = a.words.iter().map(shown).collect();
            let target = sources.pop().unwrap_or_default();
            render::print_json(&json::started(&sources, &target));
        }
        let Around { lane_ended, hushed, login } = around;
        let began = Instant::now();
        let shown = RenderOptions {
            style,
            verbose: a.verbose,
            dry_run: a.dry_run,
            verifying: false,
            here,
            hushed,
        };
        let render = Render::start(shown.clone(), self.counters.clone());
        let disk_failed = Arc::new(OnceLock::new());
        let noted = disk_failed.clone();
        let options = JobOptions {
            give_up_after: a.give_up_after.unwrap_or(GIVE_UP_AFTER),
            limit_bytes_per_s: a.limit,
            pace: self.pace(),
            may_move: self.link() == LinkChoice::Auto && self.pace() == Pace::Fair,
            lane_ended,
            sink: render.sink().and(move |event| {
                if let Event::FileFailed { reason, .. } = event
                    && let Some(hint) = report::disk_hint(reason)
                {
                    // The first one is told; the disk that is full once stays so.
                    let _ = noted.set(hint);
                }
            }),
            counters: self.counters.clone(),
        };
        let ended = tokio::select! {
            ended = start(order.clone(), options.clone()) => Some(ended),
            () = self.interrupt.wait() => None,
        };
        // What was drawn goes before anything else is written.
        drop(render);
        let elapsed = began.elapsed();
        // Before anything can go wrong with a second reading.
        let kept = match &ended {
            Some(Ok(report)) => {
                let named = a.receipt.as_deref();
                receipts::keep(&self.places, report.receipt.as_deref(), named)
            }
            _ => Ok(None),
        };
        let verdict = match &ended {
            Some(Ok(report)) if a.verify && kept.is_ok() => {
                let second = order.second_reading(report.named);
                let reading = |options| start(second, options);
                Some(self.verify(&report.totals, shown, options, reading).await)
            }
            _ => None,
        };
        if let Some(login) = login {
            login.part().await;
        }
        let report = match ended {
            Some(Err(TransferError::Cancelled)) | None => return Err(self.interrupted().await),
            Some(Err(error)) => return Err(contact::with_our_line(error.into(), &self.identity)),
            Some(Ok(report)) => report,
        };
        let (receipt, verdict) = (kept?, verdict.transpose()?);
        if a.verbose && matches!(style, Style::Bar | Style::Lines) {
            self.tell_link(here, &report, elapsed);
        }
        self.conclude(style, &report, elapsed, receipt, verdict);
        let by_disk = report.totals.failed_by_disk > 0;
        if report.totals.failed > 0 && (by_disk || disk_failed.get().is_some()) {
            let otherwise = "make room or mend the disk, then run the same command again";
            let hint = disk_failed.get().copied().unwrap_or(otherwise);
            render::tell(&format!("hint: {hint}"));
            return Ok(Code::Disk);
        }
        let is_good = report.totals.failed == 0 && verdict.is_none_or(|verdict| verdict.is_same());
        Ok(if is_good { Code::Done } else { Code::Partial })
    }

    pub(super) async fn interrupted(&self) -> anyhow::Error {
        // The link's farewell leaves with the next turn of the runtime.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Failure::new(Code::Interrupted, "interrupted; what has arrived is kept")
            .hint("the same command goes on where this one stopped")
            .into()
    }

    /// What the link did, and what held the copy back.
    fn tell_link(&self, here: Here, report: &JobReport, elapsed: Duration) {
        let link = self.counters.snapshot().link;
        render::tell(&link_words(&link, here, report.bytes_sent, elapsed));
        let times = self.counters.bound.times();
        let Some(shares) = bounds::shares(&times, here) else { return };
        render::tell(&format!("bound by: {shares}"));
        let longest = times.iter().find(|(kind, _)| *kind != BoundKind::Unknown);
        let last = longest.map(|(kind, _)| self.counters.bound.last(*kind));
        if let Some(advice) = last.and_then(|bound| bounds::advice(bound, here)) {
            render::tell(&advice);
        }
    }

    fn conclude(
        &self,
        style: Style,
        report: &JobReport,
        elapsed: Duration,
        receipt: Option<String>,
        verdict: Option<Verdict>,
    ) {
        let t = &report.totals;
        match style {
            Style::Quiet => {}
            Style::Json => {
                let end = json::Finished {
                    files: t.copied,
                    bytes: t.bytes_copied,
                    bytes_sent: report.bytes_sent,
                    skipped: t.unchanged + t.skipped,
                    failed: t.failed,
                    elapsed,
                    receipt,
                    verified: verdict.map(|verdict| verdict.is_same()),
                    differing: verdict.map(|verdict| verdict.differing),
                };
                render::print_json(&json::finished(&end));
            }
            Style::Bar | Style::Lines => {
                render::tell(&summary(t, self.arguments.dry_run, elapsed, receipt.as_deref()));
                if let Some(verdict) = verdict {
                    render::tell(&verdict.words());
                }
            }
        }
    }
}
