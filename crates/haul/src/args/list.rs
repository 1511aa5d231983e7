//! Options that name what is to be copied of a folder.

use std::path::PathBuf;

/// What of the folder is copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct ListOptions {
    /// Copy only what FILE lists, with the folders on the way; - reads the list from standard input.
    ///
    /// One name a line, relative to SOURCE, which is one folder; they keep their folders below TARGET. Of a
    /// folder that is listed only itself is made, with -r all that is in it is copied. What is listed and
    /// not there is named and counts as failed.
    #[arg(long, value_name = "FILE", conflicts_with = "delete_extra")]
    pub files_from: Option<PathBuf>,
    /// Names in the list end with a NUL byte, as `find -print0` writes them.
    #[arg(short = '0', long, requires = "files_from")]
    pub from0: bool,
}
