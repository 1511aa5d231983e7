use super::*;

#[test]
fn only_what_arrived_has_a_goodput() {
    let cost = |wall| Measurement { wall, cpu: (1.0, 1.0), memory: (1, 1) };
    let line = RivalLine {
        rival: Rival::Udpcast,
        commands: Vec::new(),
        per_mille: 5,
        rate: Some(60),
        runs: vec![(true, cost(2.0)), (false, cost(0.1)), (true, cost(4.0)), (true, cost(8.0))],
    };
    let goodput = line.goodput(Load::Large { bytes: 8000 });
    assert_eq!((goodput.least, goodput.median, goodput.most), (1000.0, 2000.0, 4000.0));
    assert_eq!(line.arrived(), 3);
}
