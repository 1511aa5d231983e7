use super::*;
use crate::bench::grid::GRID;

#[test]
fn tcp_programs_run_with_cubic_and_with_bbr_in_every_row() {
    for row in GRID {
        let contenders = Contender::of(&row);
        let ways = |program: Program| -> Vec<Congestion> {
            let of_it = contenders.iter().filter(|contender| contender.program == program);
            of_it.map(|contender| contender.congestion).collect()
        };
        let both = [Congestion::Cubic, Congestion::Bbr];
        for program in [Program::RsyncDaemon, Program::RsyncSsh, Program::Scp, Program::Rclone] {
            assert_eq!(ways(program), both, "{} in {}", program.name(), row.title());
        }
        if matches!(row.load, Load::Large { .. }) {
            assert_eq!(ways(Program::BareTls), both, "{}", row.title());
        }
        // haul decides for itself.
        assert_eq!(ways(Program::Haul), [Congestion::Own]);
    }
}

#[test]
fn what_encrypts_is_told_from_what_does_not() {
    let encrypting = ALL.into_iter().filter(|program| program.is_encrypting_rival());
    let names: Vec<&str> = encrypting.map(Program::word).collect();
    assert_eq!(names, ["rsync-ssh", "scp", "scp-aes", "qcp", "rclone"]);
}
