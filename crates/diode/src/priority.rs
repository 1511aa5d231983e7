//! Which threads run first when there are more of them than processors: those for which nobody waits, and whose work
//! would be lost. The system weighs them against each other, and against other programs of the same session or service;
//! how much of a processor that one gets in all is up to who runs it.

use rustix::process::{getpriority_process, setpriority_process};

/// Takes what comes from the kernel: it does little, and what comes meanwhile is lost for good.
pub(crate) const DRAIN: i32 = -15;

/// Works on what came. A sender is not preferred: where both run on one machine, it would only send what cannot be taken.
pub(crate) const WORK: i32 = -10;

/// Writes what was worked on.
pub(crate) const WRITE: i32 = -5;

/// Lets this thread run before those with a higher number, as far as the system allows it; one that runs before them
/// already stays so. Threads that it starts inherit this.
pub(crate) fn prefer(nice: i32) {
    if getpriority_process(None).is_ok_and(|now| now > nice) {
        // Who may not do that does without.
        let _ = setpriority_process(None, nice);
    }
}

/// Lets this thread give way to those of lower numbers than this, whatever it has inherited.
pub(crate) fn give_way(nice: i32) {
    if getpriority_process(None).is_ok_and(|now| now < nice) {
        // To give way is allowed to everybody.
        let _ = setpriority_process(None, nice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_preferred_where_that_is_allowed_and_never_put_back() {
        let base = getpriority_process(None).unwrap();
        // Where everything is nice already there is nothing to see.
        if base > 15 {
            return;
        }
        let thread = std::thread::spawn(move || {
            give_way(base + 3);
            assert_eq!(getpriority_process(None), Ok(base + 3));
            prefer(base + 4);
            assert_eq!(getpriority_process(None), Ok(base + 3));
            let may = setpriority_process(None, base + 1).is_ok();
            give_way(base + 3);
            prefer(base + 1);
            assert_eq!(getpriority_process(None), Ok(if may { base + 1 } else { base + 3 }));
        });
        thread.join().unwrap();
        // It is a thread's own.
        assert_eq!(getpriority_process(None), Ok(base));
    }
}
