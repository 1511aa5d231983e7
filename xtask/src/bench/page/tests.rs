use super::*;

fn check(figures: &[f64], median: f64, least: f64, most: f64) {
    assert_eq!(Spread::of(figures.to_vec()), Spread { median, least, most });
}

#[test]
fn a_median_is_in_the_middle_or_between_the_two_that_are() {
    check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
    check(&[4.0, 1.0, 2.0, 8.0], 3.0, 1.0, 8.0);
    check(&[5.0], 5.0, 5.0, 5.0);
}

#[test]
fn ratios_are_of_the_median_times_and_absent_without_a_base() {
    let row = |contender, walls: &[f64]| {
        let mut row = Row::new(contender);
        row.measurements = walls
            .iter()
            .map(|wall| Measurement { wall: *wall, cpu: (0.5, 0.25), memory: (2 << 20, 3 << 20) })
            .collect();
        row
    };
    let rows = vec![row(Contender::Haul, &[2.0, 4.0, 9.0]), row(Contender::Scp, &[8.0, 8.0, 2.0])];
    let table = Table { load: Load::Large { bytes: 400_000_000 }, rows };
    let text = table.markdown();
    let cells: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(
        cells[2],
        ["haul cp", "4.00 [2.00-9.00]", "100", "1.00", "-", "0.50 + 0.25", "2 + 3"]
    );
    assert_eq!(cells[3], ["scp", "8.00 [2.00-8.00]", "50", "2.00", "-", "0.50 + 0.25", "2 + 3"]);
}

#[test]
fn commands_are_shown_without_the_folders_of_this_run() {
    let mut command = Command::new("/somewhere/release/haul");
    command.args(["cp", "/tmp/x-1/source/large", "two words"]);
    assert_eq!(shown(&command, Path::new("/tmp/x-1")), "haul cp $D/source/large 'two words'");
}
