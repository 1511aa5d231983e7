//! Copies as `haul cp` does, with a line for each file: `cargo run --example copy -- SOURCE... TARGET`.

use std::process::ExitCode;

use haul::Copy;
use haul::events::Event;

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    let Some(target) = words.pop() else {
        eprintln!("copy SOURCE... TARGET");
        return ExitCode::from(2);
    };
    let copied = Copy::new(words, target)
        .on_event(|event| match event {
            Event::FileDone { path, size, .. } => {
                println!("{} ({size} bytes)", haul::files::escape(path));
            }
            Event::FileFailed { path, reason } => {
                eprintln!("{}: {reason}", haul::files::escape(path));
            }
            Event::LinkUp { address, kind, .. } => println!("connected to {address} over {kind}"),
            _ => {}
        })
        .run();
    match copied {
        Ok(report) => {
            println!("{} files, {} bytes", report.totals.copied, report.totals.bytes_copied);
            ExitCode::from(u8::from(report.totals.failed > 0))
        }
        Err(error) => {
            eprintln!("{error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            error.code().into()
        }
    }
}
