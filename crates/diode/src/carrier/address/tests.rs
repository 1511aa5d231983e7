use super::*;

#[test]
fn addresses_are_read_as_they_are_written() {
    let target = |host: &str, port| Target { host: host.to_owned(), port };
    for (text, address) in [
        ("udp://10.0.0.1:5000", Address::Udp(target("10.0.0.1", 5000))),
        ("tcp://diode.example:9876", Address::Tcp(target("diode.example", 9876))),
        ("tcp-listen://[::]:1", Address::TcpListen(target("::", 1))),
        ("udp://[ff02::1%eth0]:5000", Address::Udp(target("ff02::1%eth0", 5000))),
        ("udp://224.1.1.1%eth1:5001", Address::Udp(target("224.1.1.1%eth1", 5001))),
    ] {
        assert_eq!(text.parse(), Ok(address.clone()), "{text}");
        assert_eq!(address.to_string(), text);
    }
}

#[test]
fn what_is_no_address_is_refused() {
    for (text, error) in [
        ("10.0.0.1:5000", AddressError::Scheme),
        ("http://10.0.0.1:5000", AddressError::Scheme),
        ("udp://10.0.0.1", AddressError::NoPort),
        ("udp://::1:5000", AddressError::NoPort),
        ("udp://[::1]", AddressError::NoPort),
        ("udp://:5000", AddressError::Target(TargetError::Empty)),
        ("udp://a b:5000", AddressError::Target(TargetError::Character)),
        ("tcp://host:0", AddressError::Target(TargetError::Port)),
        ("tcp://host:65536", AddressError::Target(TargetError::Port)),
    ] {
        assert_eq!(text.parse::<Address>(), Err(error), "{text}");
    }
}

#[test]
fn an_interface_is_looked_up_and_one_that_is_not_there_is_named() {
    let find = |text: &str| Place::find(&text.parse().unwrap());
    let place = find("udp://[ff02::1%lo]:5000").unwrap();
    let SocketAddr::V6(at) = place.at else { panic!("{place:?}") };
    assert_eq!((at.scope_id(), place.interface_number()), (1, 1));
    assert_eq!(find("udp://224.1.1.1%lo:5000").unwrap().interface_number(), 1);
    let error = find("udp://224.1.1.1%nosuch0:5000").unwrap_err();
    assert!(matches!(error, CarrierError::Interface { .. }));
    assert!(error.to_string().contains("nosuch0"), "{error}");
}
