//! All that a tree ever was: each name with the files that had it, and each file with the versions that it was. What is behind a diode
//! is held against that. A version is noted before anybody can see it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use files::Digest;
use testkit::tree::{Random, set_time, write};

/// Folders that files are in; each may be moved.
const FOLDERS: u64 = 8;

/// Files that there are at most.
const MOST: usize = 250;

/// What is behind the diode: the content and the time of each file, by its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<PathBuf, (Digest, u64, i128)>);

impl Seen {
    /// Looks at a tree that may change meanwhile. Content and time are those of one file, whatever has its name a moment
    /// later.
    pub fn of(root: &Path) -> Self {
        let mut seen = BTreeMap::new();
        let mut pending = vec![root.to_owned()];
        while let Some(folder) = pending.pop() {
            let Ok(listing) = fs::read_dir(&folder) else { continue };
            for entry in listing.map_while(Result::ok) {
                let path = entry.path();
                if entry.file_name().as_encoded_bytes().starts_with(b".haul") {
                    continue;
                }
                let Ok(meta) = path.symlink_metadata() else { continue };
                if meta.is_dir() {
                    pending.push(path);
                } else if let Ok(found) = read(&path) {
                    seen.insert(path.strip_prefix(root).expect("it is below").to_owned(), found);
                }
            }
        }
        Self(seen)
    }
}

fn read(path: &Path) -> io::Result<(Digest, u64, i128)> {
    let mut file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let meta = file.metadata()?;
    let time = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok((Digest::of(&bytes), meta.len(), time))
}

/// A file through all its versions.
#[derive(Debug, Default)]
struct Once {
    /// The time of a version, if it got one before anybody could see it.
    versions: HashMap<Digest, Option<i128>>,
    now: Option<Digest>,
    /// It was rewritten in place, so that it was empty for a moment.
    was_empty: bool,
}

/// The tree and its past.
#[derive(Debug)]
pub struct Past {
    root: PathBuf,
    outside: PathBuf,
    clock: u64,
    files: Vec<Once>,
    /// Which file has a name now, and which ones ever had.
    live: BTreeMap<PathBuf, usize>,
    ever: HashMap<PathBuf, BTreeSet<usize>>,
    /// When a version came to a name, and when it last went from there.
    held: HashMap<(PathBuf, Digest), (u64, u64)>,
    /// When a name was last of no file.
    lacking: HashMap<PathBuf, u64>,
    folders: Vec<PathBuf>,
    names: u64,
}

impl Past {
    /// An empty tree; what is written beside it appears in it whole.
    pub fn new(root: PathBuf, outside: PathBuf) -> Self {
        let folders: Vec<PathBuf> =
            (0..FOLDERS).map(|number| PathBuf::from(format!("d{number}"))).collect();
        folders.iter().for_each(|folder| fs::create_dir(root.join(folder)).expect("make a folder"));
        Self {
            root,
            outside,
            clock: 0,
            files: Vec::new(),
            live: BTreeMap::new(),
            ever: HashMap::new(),
            held: HashMap::new(),
            lacking: HashMap::new(),
            folders,
            names: 0,
        }
    }

    /// Files and versions that there were.
    pub fn counts(&self) -> (usize, usize) {
        (self.files.len(), self.files.iter().map(|file| file.versions.len()).sum())
    }

    /// One change of any kind.
    pub fn step(&mut self, random: &mut Random) {
        let (some, other) = (self.any(random), self.any(random));
        match random.below(10) {
            0..3 if self.live.len() < MOST => self.add(random),
            0..5 => self.replace(&some, random),
            5 => self.rewrite(&some, random),
            6 => {
                let to = self.new_name(random);
                self.rename(&some, &to);
            }
            7 if some != other => self.rename(&some, &other),
            8 => self.move_folder(random),
            _ => self.remove(&some),
        }
    }

    fn any(&self, random: &mut Random) -> PathBuf {
        let nth = random.below(self.live.len() as u64) as usize;
        self.live.keys().nth(nth).expect("it is below their number").clone()
    }

    fn new_name(&mut self, random: &mut Random) -> PathBuf {
        self.names += 1;
        let folder = &self.folders[random.below(self.folders.len() as u64) as usize];
        folder.join(format!("file {}", self.names))
    }

    /// A new file.
    pub fn add(&mut self, random: &mut Random) {
        let path = self.new_name(random);
        self.files.push(Once::default());
        let file = self.files.len() - 1;
        self.put(file, &path, random);
    }

    /// Another version, in one step.
    fn replace(&mut self, path: &Path, random: &mut Random) {
        self.put(self.live[path], path, random);
    }

    fn put(&mut self, file: usize, path: &Path, random: &mut Random) {
        // Most files are small; some go out in several blocks, so that kills come in the middle of them.
        let length = match random.below(12) {
            0 => (1 << 20) + random.below(3 << 20),
            1..4 => random.below(200_000),
            _ => random.below(5000),
        };
        // Eight bytes at least, so that no two versions are the same by chance.
        let bytes = random.bytes(length as usize + 8);
        let made = self.outside.join("made");
        write(&made, &bytes);
        let seconds = 1_000_000_000 + random.below(700_000_000) as i64;
        let nanos = random.below(1_000_000_000) as u32;
        set_time(&made, seconds, nanos);
        let time = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        self.note(file, path, Digest::of(&bytes), Some(time));
        fs::rename(&made, self.root.join(path)).expect("rename a file");
    }

    /// Another version, in place: whoever reads it meanwhile must notice.
    fn rewrite(&mut self, path: &Path, random: &mut Random) {
        let length = random.below(60_000) as usize + 8;
        let bytes = random.bytes(length);
        let file = self.live[path];
        self.files[file].was_empty = true;
        self.note(file, path, Digest::of(&bytes), None);
        write(&self.root.join(path), &bytes);
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let file = self.live[from];
        // Behind the diode an older file may still be there, and goes along until the content of this one has come.
        let before = self.ever[from].clone();
        self.ever.entry(to.to_owned()).or_default().extend(before);
        self.leave(from);
        if let Some(digest) = self.files[file].now {
            let time = self.files[file].versions[&digest];
            self.note(file, to, digest, time);
        }
        fs::rename(self.root.join(from), self.root.join(to)).expect("rename a file");
    }

    fn remove(&mut self, path: &Path) {
        self.leave(path);
        fs::remove_file(self.root.join(path)).expect("remove a file");
    }

    fn move_folder(&mut self, random: &mut Random) {
        self.names += 1;
        let nth = random.below(self.folders.len() as u64) as usize;
        let to = PathBuf::from(format!("d{}", self.names));
        let from = std::mem::replace(&mut self.folders[nth], to.clone());
        let renamed = |path: &Path| to.join(path.strip_prefix(&from).expect("it is below"));
        // Behind the diode the folder takes along what is in it there, which may be what was here before.
        let ever: Vec<_> = self.ever.iter().filter(|(path, _)| path.starts_with(&from)).collect();
        let ever: Vec<_> =
            ever.into_iter().map(|(path, files)| (renamed(path), files.clone())).collect();
        for (path, files) in ever {
            self.ever.entry(path).or_default().extend(files);
        }
        let moved: Vec<PathBuf> =
            self.live.keys().filter(|path| path.starts_with(&from)).cloned().collect();
        for path in moved {
            let file = self.live[&path];
            self.leave(&path);
            let new = renamed(&path);
            let digest = self.files[file].now.expect("it is there");
            let time = self.files[file].versions[&digest];
            self.note(file, &new, digest, time);
        }
        fs::rename(self.root.join(from), self.root.join(to)).expect("rename a folder");
    }

    /// From now on a file of this version may be at this path.
    fn note(&mut self, file: usize, path: &Path, digest: Digest, time: Option<i128>) {
        self.clock += 1;
        if let Some(before) = self.live.insert(path.to_owned(), file) {
            self.gone(before, path);
        }
        self.files[file].versions.insert(digest, time);
        self.files[file].now = Some(digest);
        self.ever.entry(path.to_owned()).or_default().insert(file);
        let held = self.held.entry((path.to_owned(), digest)).or_insert((self.clock, 0));
        held.1 = u64::MAX;
    }

    fn gone(&mut self, file: usize, path: &Path) {
        let Some(digest) = self.files[file].now else { return };
        if let Some(held) = self.held.get_mut(&(path.to_owned(), digest)) {
            held.1 = self.clock;
        }
    }

    fn leave(&mut self, path: &Path) {
        self.clock += 1;
        if let Some(file) = self.live.remove(path) {
            self.gone(file, path);
        }
        self.lacking.insert(path.to_owned(), self.clock);
    }

    /// Whether each file is a whole version of one that once had its name.
    pub fn check(&self, seen: &Seen) -> Result<(), String> {
        let empty = Digest::of(b"");
        for (path, (digest, length, time)) in &seen.0 {
            let shown = path.display();
            let files = self.ever.get(path).ok_or(format!("{shown}: no file had that name"))?;
            let mut files = files.iter().map(|file| &self.files[*file]);
            let of = files.clone().find(|file| file.versions.contains_key(digest));
            match of.map(|file| file.versions[digest]) {
                Some(Some(wanted)) if wanted != *time => {
                    return Err(format!("{shown}: a version with another time"));
                }
                Some(_) => {}
                None if *digest == empty && files.any(|file| file.was_empty) => {}
                None => {
                    let elsewhere =
                        self.files.iter().any(|file| file.versions.contains_key(digest));
                    let what = if elsewhere { "of another file" } else { "that were no version" };
                    return Err(format!("{shown}: {length} bytes {what}"));
                }
            }
        }
        Ok(())
    }

    /// Whether nothing that was seen was lost, or gave way to what was older.
    pub fn check_order(&self, before: &Seen, after: &Seen) -> Result<(), String> {
        for (path, (digest, ..)) in &before.0 {
            let shown = path.display();
            let Some((came, _)) = self.held.get(&(path.clone(), *digest)) else { continue };
            match after.0.get(path) {
                None => {
                    if self.lacking.get(path).is_none_or(|at| at < came) {
                        return Err(format!("{shown}: it is gone, and was never removed"));
                    }
                }
                Some((later, ..)) => {
                    let went = self.held.get(&(path.clone(), *later)).map(|(_, went)| *went);
                    if went.is_some_and(|went| went < *came) {
                        return Err(format!("{shown}: an older version came back"));
                    }
                }
            }
        }
        Ok(())
    }
}
