use super::*;

#[test]
fn lines_lie_at_round_values() {
    for (most, expected) in [(5.0, 1.0), (1063.0, 500.0), (24.0, 5.0), (0.4, 0.1), (99.0, 20.0)] {
        assert!((tick(most) / expected - 1.0).abs() < 1e-9, "{most}: {}", tick(most));
    }
}

#[test]
fn what_is_in_a_plot_cannot_break_out_of_it() {
    let bar = |value: f64| Bar {
        label: "a<b & \"c\"".to_owned(),
        value,
        range: Some((value * 0.9, value * 1.1)),
        note: None,
        kind: Kind::Rival,
    };
    let group = Group { heading: "> 40 s".to_owned(), bars: vec![bar(3.0), bar(f64::NAN)] };
    let plot = Plot { title: "t".to_owned(), groups: vec![group], ..Plot::default() };
    let svg = plot.svg();
    assert!(svg.contains("a&lt;b &amp;") && svg.contains("&gt; 40 s"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
}

#[test]
fn values_have_the_digits_that_count() {
    for (value, text) in [(1063.2, "1063"), (23.71, "23.7"), (0.217, "0.22"), (0.021, "0.021")] {
        assert_eq!(shown(value), text);
    }
    for (value, text) in [(0.1 + 0.2, "0.3"), (20.0, "20"), (1500.0, "1500")] {
        assert_eq!(round(value), text);
    }
}
