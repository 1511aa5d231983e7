use super::*;

fn scale(figures: &[(u32, f64, u64)], daemon: u64) -> Scale {
    let cost = |wall, memory| Measurement { wall, cpu: (wall / 2.0, 0.0), memory };
    let files = figures.iter().map(|(folders, wall, near)| {
        let load = Load::Many { folders: *folders, each: 1000, bytes: 4096 };
        (load, cost(*wall, (near << 20, 20 << 20)))
    });
    let clients = vec![Clients { count: 64, cost: cost(1.0, (20 << 20, daemon << 20)) }];
    Scale { files: files.collect(), clients }
}

#[test]
fn flat_is_told_from_not_flat_with_the_figures() {
    // A thousand files do not count: most of their time is the start.
    let flat = scale(&[(1, 0.2, 20), (10, 0.25, 30), (100, 2.6, 40), (1000, 30.0, 60)], 99);
    let section = scale_section(&flat, "");
    let said = "- Time per file: met, it is flat. From 10,000 to 1,000,000 files it grows from 25.0 to 30.0 \
                microseconds, 1.20 times; up to 1.25 counts as flat.";
    assert!(section.contains(said), "{section}");
    assert!(section.contains("- Memory: met. At most 60 MiB near and 20 MiB far"), "{section}");
    assert!(section.contains("- Memory: met. At most 20 MiB near and 99 MiB far"), "{section}");
    let grows = scale(&[(10, 0.25, 30), (100, 4.0, 40), (1000, 30.0, 100)], 100);
    let section = scale_section(&grows, "");
    let said = "- Time per file: missed, it is not flat. From 10,000 to 1,000,000 files it grows from 25.0 to \
                40.0 microseconds, 1.60 times";
    assert!(section.contains(said), "{section}");
    assert!(
        section.contains("- CPU time per file, both sides: missed, it is not flat."),
        "{section}"
    );
    // A slow start hides no growth behind it.
    let later = scale(&[(10, 0.5, 30), (100, 2.0, 40), (1000, 40.0, 40)], 20);
    let section = scale_section(&later, "");
    assert!(section.contains("it grows from 20.0 to 40.0 microseconds, 2.00 times"), "{section}");
    let section = scale_section(&grows, "");
    assert_eq!(section.matches("- Memory: missed").count(), 2, "{section}");
}

#[test]
fn few_files_say_nothing_of_growth() {
    for few in [&[][..], &[(1, 0.2, 20)], &[(1, 0.2, 20), (10, 0.25, 20)]] {
        let section = scale_section(&scale(few, 20), "");
        assert!(section.contains("- Time per file: not measured."), "{section}");
    }
}
