//! What the page says around the figures.

/// How the grid is measured.
pub const HOW: &str = "\
- Both ends are on this machine, in two network namespaces that have nothing in common but the link.
  Clean rows use a pair of virtual devices of the kernel. The other links are made by the `badlink` program of
  this project, which carries each packet through a model of the link; it runs on the same processors. Packets that
  are due within 80 us of each other, or a hundredth of the delay up to 250 us, are handed over together, as network cards do it.
- Time is from the start of the command to its end, the connection included. Daemons run beforehand.
- Programs run in turns, the order turned around each time. Clean rows begin with a run that does not
  count. On the other links, a program that takes more than 1.3 times as long as the fastest rival in the
  first run is not run again; the column of runs says so.
- A run that takes too long (40 s, or 4 times the limit of the link if that is less, but at least 20 s) is
  stopped; then the table has the time and how much of the data was there.
- Every copy is compared with its source byte by byte after the run, and then removed.
- CPU is user and system time of all processes on each side, near (the command) + far (the daemon and
  its sessions), in steps of 10 ms. The emulated link is not in it.
- Memory is the sum of the peak resident sizes of all processes of a side, near + far. It is sampled
  every 20 ms, so the peak of a process that ends may be a little higher.
- Brackets hold the least and the most of all runs. Ratios are of medians, with the range of 95 % of such
  ratios when runs are drawn anew (bootstrap).
- \"Time / haul\" above 1 means that a program took longer than haul.
- `haul cp` meets the host for the first time in every run: each has a home and a key of its own. \"Host
  known\" is a client that keeps what it learnt in the runs before.
- The limit is what is left of the link's rate for the payload after headers and what is lost, and one
  round trip or two; it is a figure of ours, and no program can be much faster.
- TCP programs run with the kernel's CUBIC and with its BBR, and qcp with those that it has built in; haul is
  held against the better of the two. haul itself chooses, on each connection.
- sshd serves with its built-in sftp, a fresh host key and otherwise its defaults. qcp is told the rate and
  the round trip, as it asks for, and copies 8 files at once; rclone copies 16 and does not ask for a checksum
  of each. uftp sends at 97 % of the rate, or as fast as it can on a clean row; it is told the round trip, and
  who receives, or else it would wait for others to register for 60 round trips.
- rsync's daemon and uftp do not encrypt; all others do.
- The bare senders are `crates/link/examples/bare_sender.rs` (the QUIC library with the settings of haul's
  lanes) and `bare_tls.rs` (TLS 1.3 over one TCP connection): one file, nothing hashed, verified or resumed.
  They are yardsticks and no rivals, and so is `cp`.
- Nothing calls fsync; haul does with `--fsync`.
";

/// How growth is measured.
pub const HOW_SCALE: &str = "\
haul alone, on a clean pair of devices, one run each. Files have 4096 bytes and lie in folders of 1,000; a
million of them and the copy take 8.2 GB of the disk, and more for inodes.
";

/// How processor time is held against others.
pub const HOW_CPU: &str = "\
Medians of both sides together. The aim is no more than the rival that encrypts in the same way: where haul
goes over QUIC that is qcp, and where it goes over TCP, which it takes for round trips below 5 ms, the cheapest
of all that encrypt. \"Within noise\" means that the range of the ratio has 1 in it, or that the sums are within
20 ms. Below the table is every rival that encrypts and takes less by more than noise, over QUIC or TCP.
";

/// How memory is held against others.
pub const HOW_MEMORY: &str = "\
The aim is a peak below 100 MiB on each side, in every run. Below the table is every rival that encrypts and
has a lower median, both sides together.
";

/// How sharing is measured.
pub const HOW_SHARING: &str = "\
Two transfers of haul, each with a daemon of its own, send over a link of 100 Mbit/s with a round trip of 40
ms, with and without one plain TCP flow with CUBIC. The queue of 1.5 MB holds 120 ms, so that whoever fills it
is seen. After 5 s, bytes that arrived are counted for 20 s (for haul, what is written at the target), while a
ping goes every 50 ms. Its rise is over the same link when idle, just before. CUBIC alone fills the queue too:
beside it, what haul adds is the rise above that with CUBIC alone. That half of an equal share is enough is a
bound of ours.
";

/// How to run it again.
pub const REPEAT: &str = "
## Repeat it

On a machine that does nothing else, as root:

    cargo xtask bench copy

It takes more than an hour and leaves no namespace, process or setting behind, also when it is interrupted; what was
measured until then is kept. Commit all changes first, or the page begins with a warning. It installs rivals with
apt-get where that is possible, builds qcp once into a folder beside what cargo builds, and lets namespaces use CUBIC and
BBR while it runs. `--rows 1,3,scale,sharing` measures these anew and leaves the others as they are, if they were
measured on the same machine; `--runs N` sets the number of runs.
`--only haul,rsync` runs a part of the programs, `--quick` copies little, to see that it works, and `--haul FILE`
measures another build; none of these three writes this page, unless `--page FILE` says where. In the commands above,
`$D` is the folder of the bench and `$A` the near namespace.
";
