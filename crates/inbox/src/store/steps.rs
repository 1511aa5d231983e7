//! The points at which publishing touches the disk. Each goes by here first, so that a test can have any one of them
//! fail, or everything from it on, as if the machine had stopped there.

use super::StoreError;

/// Does nothing but in tests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    #[cfg(test)]
    plan: std::sync::Arc<std::sync::Mutex<Plan>>,
}

/// What a test wants, and what has happened.
#[cfg(test)]
#[derive(Debug, Default)]
struct Plan {
    fail: Option<Failure>,
    passed: Vec<&'static str>,
}

/// At which point something fails, counted from 1.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// At this one, once.
    At(usize),
    /// At this one and at all that follow.
    From(usize),
}

impl Steps {
    /// The next point: what follows is what it is called.
    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(crate) fn at(&self, _what: &'static str) -> Result<(), StoreError> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn at(&self, what: &'static str) -> Result<(), StoreError> {
        let mut plan = self.plan.lock().unwrap();
        plan.passed.push(what);
        let number = plan.passed.len();
        let fails = match plan.fail {
            None => false,
            Some(Failure::At(at)) => number == at,
            Some(Failure::From(at)) => number >= at,
        };
        if !fails {
            return Ok(());
        }
        let source = std::io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
        let path = std::path::PathBuf::from(what);
        Err(StoreError::Files(match what.starts_with("sync") {
            true => files::FilesError::Sync { path, source },
            false => files::FilesError::Io { action: files::Action::Write, path, source },
        }))
    }

    /// Forgets what has passed, and fails as told from now on.
    #[cfg(test)]
    pub(crate) fn plan(&self, fail: Option<Failure>) {
        *self.plan.lock().unwrap() = Plan { fail, passed: Vec::new() };
    }

    /// What has passed.
    #[cfg(test)]
    pub(crate) fn passed(&self) -> Vec<&'static str> {
        self.plan.lock().unwrap().passed.clone()
    }
}
