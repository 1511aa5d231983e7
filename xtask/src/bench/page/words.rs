//! What the page says around the figures.

/// How the grid is measured.
pub const HOW: &str = "\
- Both ends are on this machine, in two network namespaces that have nothing in common but the link.
  Clean rows use a pair of virtual devices of the kernel. The other links are made by the `badlink` program of
  this project, which carries each packet through a model of the link; it runs on the same processor.
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
- TCP programs run with CUBIC and with BBR where a link has a rate. sshd serves with its built-in sftp, a fresh
  host key and otherwise its defaults. qcp is told the rate and the round trip, as it asks for, and copies
  8 files at once; rclone copies 16 and does not ask for a checksum of each; uftp sends at 95 % of the rate.
- rsync's daemon and uftp do not encrypt; all others do.
- The bare senders are `crates/link/examples/bare_sender.rs` (the QUIC library with the settings of haul's
  lanes) and `bare_tls.rs` (TLS 1.3 over one TCP connection): one file, nothing hashed, verified or resumed.
  They are yardsticks and no rivals, and so is `cp`.
- Nothing calls fsync; haul does with `--fsync`.
";

/// How growth is measured.
pub const HOW_SCALE: &str = "\
haul alone, on a clean pair of devices, one run each. The cost is flat if the time per file and the memory
do not grow from row to row. Files have 256 bytes and lie in folders of 1,000.
";

/// How sharing is measured.
pub const HOW_SHARING: &str = "\
Two transfers of haul, each with a daemon of its own, and one plain TCP flow with CUBIC send at once over a
link of 100 Mbit/s with a round trip of 40 ms and a queue of one bandwidth-delay product. After some
seconds, bytes that arrived are counted for a while (for haul, what is written at the target), while a ping
goes every 50 ms. Its rise is over the same link when idle. A third for each is the fair share.
";

/// How to run it again.
pub const REPEAT: &str = "
## Repeat it

On a machine that does nothing else, as root:

    cargo xtask bench copy

It takes more than an hour and leaves no namespace, process or setting behind, also when it is interrupted; what was
measured until then is kept. It installs rivals with apt-get where that is possible, builds qcp once into a folder
beside what cargo builds, and lets namespaces use CUBIC and BBR while it runs. `--rows 1,3,scale,sharing` measures these
anew and leaves the others as they are, if they were measured on the same machine; `--runs N` sets the number of runs.
`--only haul,rsync` runs a part of the programs, `--quick` copies little, to see that it works, and `--haul FILE`
measures another build; none of these three writes this page, unless `--page FILE` says where. In the commands above,
`$D` is the folder of the bench and `$A` the near namespace.
";
