use super::*;

#[test]
fn what_was_dropped_is_read_from_the_rules() {
    let rules = "table netdev bench {\n\tchain entry {\n\t\ttype filter hook ingress device \"link0\" \
                 priority filter; policy accept;\n\t\tnumgen random mod 1000 < 5 counter packets 4711 \
                 bytes 99 drop\n\t}\n}";
    assert_eq!(counted(rules), Some(4711));
    assert_eq!(counted("table netdev bench {\n}"), None);
}
