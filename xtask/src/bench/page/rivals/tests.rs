use super::super::tests::{entry, result};
use super::*;
use crate::bench::grid::GRID;

/// A program with runs of one second that cost so much processor time.
fn costly(program: Program, cpu: &[f64]) -> Entry {
    let mut entry = entry(program, &vec![1.0; cpu.len()]);
    for (measurement, cpu) in entry.measurements.iter_mut().zip(cpu) {
        measurement.cpu = (cpu / 2.0, cpu / 2.0);
    }
    entry
}

/// What the part of the section below a heading says.
fn below<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, behind) = text.split_once(heading).unwrap();
    behind.split("\n##").next().unwrap()
}

#[test]
fn a_rival_that_is_better_is_named_and_a_yardstick_is_none() {
    let rows = [result(
        GRID[0],
        vec![
            entry(Program::Haul, &[2.0]),
            entry(Program::RsyncDaemon, &[1.0]),
            entry(Program::Scp, &[4.0]),
            entry(Program::BareTls, &[0.5]),
        ],
    )];
    let text = better_rivals(&rows);
    let time = below(&text, "better");
    assert!(time.contains("rsync daemon, not encrypted takes 1.00 s, haul 2.00 s"), "{time}");
    assert!(!time.contains("scp") && !time.contains("bare") && !time.contains("Nowhere"), "{time}");
    let rows = [result(GRID[0], vec![entry(Program::Haul, &[1.0]), entry(Program::Scp, &[4.0])])];
    assert_eq!(better_rivals(&rows).matches("Nowhere").count(), 3);
    // Without figures of haul nothing may look like a victory.
    let rows = [result(GRID[0], vec![entry(Program::Scp, &[4.0])])];
    let text = better_rivals(&rows);
    assert_eq!(text.matches("haul has no figures").count(), 3, "{text}");
    assert_eq!(text.matches("not measured").count(), 2, "{text}");
}

#[test]
fn processor_time_is_held_against_the_rival_that_encrypts_alike() {
    // Row 7 goes over QUIC: qcp counts, and what is cheaper over TCP is told below.
    let far = result(
        GRID[6],
        vec![
            costly(Program::Haul, &[2.0, 2.1, 1.9]),
            costly(Program::RsyncDaemon, &[0.3, 0.3, 0.3]),
            costly(Program::Scp, &[0.7, 0.7, 0.7]),
            costly(Program::Qcp, &[2.8]),
        ],
    );
    let text = better_rivals(&[far]);
    let cpu = below(&text, "### Processor time");
    assert!(cpu.contains("| qcp in its only run |"), "{cpu}");
    assert!(cpu.contains("scp takes 0.70 CPU s, haul 2.00, 2.86 ["), "{cpu}");
    assert!(!cpu.contains("rsync"), "what does not encrypt is no measure: {cpu}");
    // 2.0 s for 105 MB.
    assert!(cpu.contains(" QUIC |") && cpu.contains("20.5") && cpu.contains("met |"), "{cpu}");
    // Row 1 goes over TCP: the cheapest counts.
    let near = result(
        GRID[0],
        vec![
            costly(Program::Haul, &[2.0, 2.0]),
            costly(Program::Scp, &[4.0, 4.1]),
            costly(Program::Qcp, &[1.0, 1.0]),
        ],
    );
    let text = better_rivals(&[near]);
    let cpu = below(&text, "### Processor time");
    assert!(cpu.contains(" TCP |") && cpu.contains("| 2.00 [2.00-2.00] |"), "{cpu}");
    assert!(cpu.contains("missed |") && cpu.contains("qcp takes 1.00 CPU s, haul 2.00"), "{cpu}");
}

#[test]
fn a_difference_within_noise_is_called_so() {
    let check = |haul: &[f64], rival: &[f64], expected: &str| {
        let (haul, rival) = (costly(Program::Haul, haul), costly(Program::Qcp, rival));
        assert_eq!(cpu_verdict(Some(&haul), Some(&rival)), expected);
    };
    check(&[1.0, 1.0, 1.0], &[1.0, 1.0, 1.0], "met");
    check(&[1.0, 1.2, 0.9], &[1.1, 1.3, 1.0], "met");
    check(&[1.1, 1.3, 0.9], &[1.0, 1.2, 0.8], "missed, within noise");
    // One step of the clock on each side.
    check(&[0.12, 0.12, 0.12], &[0.10, 0.10, 0.10], "missed, within noise");
    check(&[1.3, 1.3, 1.3], &[1.0, 1.0, 1.1], "missed");
    assert_eq!(cpu_verdict(None, None), "not measured");
    assert_eq!(cpu_verdict(Some(&costly(Program::Haul, &[1.0])), None), "not measured");
}

#[test]
fn memory_is_below_its_bound_on_both_sides_in_every_run() {
    let check = |memory: &[(u64, u64)], expected: &str| {
        let mut haul = entry(Program::Haul, &vec![1.0; memory.len()]);
        for (measurement, memory) in haul.measurements.iter_mut().zip(memory) {
            measurement.memory = (memory.0 << 20, memory.1 << 20);
        }
        assert_eq!(memory_verdict(Some(&haul)), expected);
    };
    check(&[(35, 39), (99, 99)], "met");
    check(&[(35, 39), (100, 39), (35, 39)], "missed");
    check(&[(35, 101)], "missed");
    assert_eq!(memory_verdict(None), "not measured");
    let mut smaller = entry(Program::Scp, &[1.0]);
    smaller.measurements[0].memory = (1 << 20, 3 << 20);
    let text = better_rivals(&[result(GRID[0], vec![entry(Program::Haul, &[1.0]), smaller])]);
    let memory = below(&text, "### Memory");
    assert!(memory.contains("scp has 4 MiB on both sides in its only run, haul 5"), "{memory}");
}
