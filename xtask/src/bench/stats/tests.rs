use super::*;

fn check(figures: &[f64], median: f64, least: f64, most: f64) {
    assert_eq!(Spread::of(figures.to_vec()), Spread { median, least, most });
}

#[test]
fn a_median_is_in_the_middle_or_between_the_two_that_are() {
    check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
    check(&[4.0, 1.0, 2.0, 8.0], 3.0, 1.0, 8.0);
    check(&[5.0], 5.0, 5.0, 5.0);
    assert!(Spread::of(Vec::new()).median.is_nan());
}

#[test]
fn a_ratio_is_as_sure_as_its_figures() {
    let exact = Spread::ratio(&[4.0, 4.0, 4.0], &[2.0, 2.0]);
    assert_eq!(exact, Spread { median: 2.0, least: 2.0, most: 2.0 });
    let ratio = Spread::ratio(&[3.0, 4.0, 5.0, 4.0, 8.0], &[2.0, 2.0, 2.0, 1.9, 2.1]);
    assert_eq!(ratio.median, 2.0);
    assert!(ratio.least < 2.0 && ratio.least >= 3.0 / 2.1, "{ratio:?}");
    assert!(ratio.most > 2.0 && ratio.most <= 8.0 / 1.9, "{ratio:?}");
    assert!(Spread::ratio(&[], &[1.0]).median.is_nan());
}

#[test]
fn percentiles_are_figures_that_were_measured() {
    let figures: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    assert_eq!(percentile(&figures, 0.95), 95.0);
    assert_eq!(percentile(&[7.0], 0.95), 7.0);
    assert!(percentile(&[], 0.5).is_nan());
    assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
}
