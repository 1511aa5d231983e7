//! Which threads run first when there are more of them than processors.

use rustix::process::{getpriority_process, setpriority_process};

/// Takes what comes from the kernel: it does little, and what comes meanwhile is lost for good.
pub(crate) const DRAIN: i32 = -15;

/// Works on what came, or has it waited for.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_preferred_where_that_is_allowed_and_never_put_back() {
        let thread = std::thread::spawn(|| {
            setpriority_process(None, 7).unwrap();
            prefer(9);
            assert_eq!(getpriority_process(None), Ok(7));
            let may = setpriority_process(None, 6).is_ok();
            prefer(3);
            assert_eq!(getpriority_process(None), Ok(if may { 3 } else { 7 }));
        });
        thread.join().unwrap();
        // It is a thread's own.
        assert!(getpriority_process(None).unwrap() < 3);
    }
}
