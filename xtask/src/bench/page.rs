//! The figures as tables and plots, on the terminal and as a page of the documentation: medians with the
//! range, each program beside haul, and in plain words whether haul reaches what it is to reach.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::{Archive, Record, SCALE, SHARING};
use super::grid::GRID;
use super::plot::Plot;
use super::race::RowResult;

pub mod cells;
mod growth;
mod plots;
mod rivals;
mod rows;
mod shares;
mod words;

use growth::{scale_plot, scale_section};
use plots::{row_plot, summary_plot};
use rivals::better_rivals;
use rows::{section, summary, table};
use shares::{sharing_plot, sharing_section};
use words::{HOW, REPEAT};

/// The pages of this run of the bench, and of those before.
#[derive(Debug)]
pub struct Report {
    /// What was found out.
    pub record: Record,
}

impl Report {
    /// What is known before the first run.
    pub fn new(record: Record) -> Self {
        Self { record }
    }

    /// One row with what is needed to read it.
    pub fn row(&self, result: &RowResult) -> String {
        let row = &result.row;
        format!(
            "\n{}. {}, median of {} [range]\n\n{}",
            row.number,
            row.title(),
            self.record.runs,
            table(result)
        )
    }

    /// Writes the page, its figures beside it, and its plots into a folder beside it.
    pub fn write(&self, page: &Path) -> Result<()> {
        self.record.archive.write(&page.with_extension("json"))?;
        let plots = page.parent().unwrap_or(Path::new("")).join("plots");
        fs::create_dir_all(&plots).with_context(|| format!("make {}", plots.display()))?;
        for (name, plot) in self.plots() {
            let path = plots.join(name);
            fs::write(&path, plot.svg()).with_context(|| format!("write {}", path.display()))?;
        }
        fs::write(page, self.page()).with_context(|| format!("write {}", page.display()))
    }

    /// The page of the documentation.
    pub fn page(&self) -> String {
        let mut page = format!(
            "# Benchmarks\n\nThis page is written by `cargo xtask bench copy`, last on {}. It holds haul \
             against other programs on nine rows of links and work, says where another one is better, and \
             shows how haul's cost grows and how it shares a link. The figures of single runs are in \
             [benchmarks.json](benchmarks.json).\n\n",
            self.record.day
        );
        let rows = self.record.archive.rows();
        page += &changed(&self.record.archive, title);
        page += &lacking(&self.record.archive);
        if !rows.is_empty() {
            page += &summary(&rows);
            page += &better_rivals(&rows);
        }
        page += &format!("## How it is measured\n\n{HOW}");
        let _ = write!(
            page,
            "- Source and target lie on {}.\n\n## Machine and programs\n\n",
            self.record.archive.disk
        );
        for line in &self.record.archive.machine {
            let _ = writeln!(page, "- {line}");
        }
        for line in self.record.archive.lines(|part| part.versions.get(1..).unwrap_or_default()) {
            let _ = writeln!(page, "- {line}");
        }
        for reason in self.record.archive.lines(|part| &part.missing) {
            let _ = writeln!(page, "- Without figures: {}", reason.replace('\n', " "));
        }
        for result in &rows {
            page += &section(result, &self.record.archive.origin(&result.row.number.to_string()));
        }
        let of = |name| self.record.archive.origin(name);
        page += &self
            .record
            .archive
            .scale()
            .map(|it| scale_section(it, &of(SCALE)))
            .unwrap_or_default();
        let sharing = self.record.archive.sharing().map(|it| sharing_section(it, &of(SHARING)));
        page + &sharing.unwrap_or_default() + REPEAT
    }

    fn plots(&self) -> Vec<(String, Plot)> {
        let (mut plots, rows) = (Vec::new(), self.record.archive.rows());
        if !rows.is_empty() {
            plots.push(("summary.svg".to_owned(), summary_plot(&rows)));
        }
        for result in &rows {
            plots.push((format!("row-{}.svg", result.row.number), row_plot(result)));
        }
        let scale = self.record.archive.scale().map(scale_plot);
        plots.extend(scale.map(|plot| ("scale.svg".to_owned(), plot)));
        let sharing = self.record.archive.sharing().map(sharing_plot);
        plots.extend(sharing.map(|plot| ("sharing.svg".to_owned(), plot)));
        plots
    }
}

/// What has no figures yet; nothing if all has.
fn lacking(archive: &Archive) -> String {
    let rows = archive.rows();
    let measured = |number| rows.iter().any(|result| result.row.number == number);
    let numbers = GRID.iter().map(|row| row.number).filter(|number| !measured(*number));
    let mut absent: Vec<String> = numbers.map(|number| format!("row {number}")).collect();
    for (name, is_absent) in
        [(SCALE, archive.scale().is_none()), (SHARING, archive.sharing().is_none())]
    {
        absent.extend(is_absent.then(|| title(name)));
    }
    match absent.is_empty() {
        true => String::new(),
        false => format!("Not measured yet: {}.\n\n", absent.join(", ")),
    }
}

/// Says of which parts nobody can get the program again; nothing if there are none.
pub fn changed(archive: &Archive, title: impl Fn(&str) -> String) -> String {
    let names: Vec<String> = archive.changed().into_iter().map(title).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(
            "**Warning: measured with changes that no commit holds, so that nobody can repeat it: {}. \
             Commit the changes and measure anew.**\n\n",
            names.join(", ")
        ),
    }
}

/// What a part is called in a sentence.
fn title(name: &str) -> String {
    match name {
        SCALE => "how cost grows".to_owned(),
        SHARING => "how a link is shared".to_owned(),
        number => format!("row {number}"),
    }
}

/// A command as one would type it, with the folder of the bench as `$D`, the near namespace as `$A` and
/// programs by their names.
pub fn shown(command: &Command, folder: &Path) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    if let [ip, netns, exec, near, _, ..] = &mut words[..]
        && [&*ip, &*netns, &*exec] == ["ip", "netns", "exec"]
    {
        *near = "$A".to_owned();
    }
    for word in &mut words {
        // Where a program was built or installed is of no use to a reader.
        let path = Path::new(&*word);
        let name = path.file_name().filter(|_| path.is_absolute() && !path.starts_with(folder));
        if let Some(name) = name.filter(|_| path != Path::new("/dev/null")) {
            *word = name.to_string_lossy().into_owned();
        }
    }
    let quoted =
        |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    let line = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    line.replace(&*folder.to_string_lossy(), "$D")
}

#[cfg(test)]
mod tests;
