//! The list of devices: their states, and the one to check.

use super::*;

fn listing(list: &'static str) -> String {
    serve(move |mut stream| {
        assert_eq!(read_request(&mut stream).unwrap(), "host:devices-l");
        answer(&mut stream, &text(list));
    })
}

#[test]
fn each_state_of_a_device_is_named_with_its_cure() {
    for (list, message) in [
        (
            "R58M123ABC unauthorized usb:1-4 transport_id:2\n",
            "the device R58M123ABC has the state \"unauthorized\": it has not accepted the key of this adb server; unlock it and confirm",
        ),
        (
            "R58M123ABC offline transport_id:2\n",
            "the device R58M123ABC has the state \"offline\": it is connected, but does not respond to the adb server; reconnect it",
        ),
        (
            "R58M123ABC no permissions (user in plugdev group; are your udev rules wrong?); see [http://…] usb:1-4\n",
            "the device R58M123ABC has the state \"no permissions\": the adb server may not open its USB port; install the udev rules",
        ),
        (
            "R58M123ABC authorizing transport_id:2\n",
            "has the state \"authorizing\": it has only just been connected",
        ),
        (
            "R58M123ABC recovery usb:1-4\n",
            "has the state \"recovery\": it does not run Android now; restart it with `adb reboot`",
        ),
        (
            "R58M123ABC dreaming\n",
            "has the state \"dreaming\": expected the state device; see `adb devices -l`",
        ),
        (
            "",
            "there is no device R58M123ABC: the adb server has no devices; connect it",
        ),
        (
            "a device\n",
            "there is no device R58M123ABC: the adb server has only the device a; connect it",
        ),
        (
            "a device\nb device\nc device\nd device\ne device\nf device\ng device\n",
            "the adb server has the devices a, b, c, d, e and 2 more;",
        ),
        ("\u{1b}[2J device\nR58M123ABC\n", "only the device  [2J"),
    ] {
        let report = check(&json!({"address": listing(list), "serial": "R58M123ABC"}));
        assert_unhealthy(&report, message);
    }
}

#[test]
fn without_a_serial_there_must_be_one_device() {
    let config = |list| json!({"address": listing(list)});
    assert_unhealthy(
        &check(&config("")),
        "the adb server has no devices; connect one",
    );
    assert_unhealthy(
        &check(&config("a offline\n")),
        "the device a has the state \"offline\"",
    );
    let failure = try_check(Duration::from_secs(60), &config("a device\nb offline\n")).unwrap_err();
    assert_eq!(
        failure.message(),
        "the adb server has the devices a, b; choose one with `serial`"
    );
}

#[test]
fn a_device_is_found_by_its_port_if_its_serial_is_that_of_another() {
    let twins =
        "0123 offline usb:1-4\n0123 unauthorized usb:1-5\n(no serial number) recovery usb:1-6\n";
    let config = |serial| json!({"address": listing(twins), "serial": serial});
    let failure = try_check(Duration::from_secs(60), &config("0123")).unwrap_err();
    assert!(
        failure
            .message()
            .contains("several devices have the serial 0123; set"),
        "{failure}"
    );
    assert_unhealthy(
        &check(&config("usb:1-5")),
        "the device 0123 has the state \"unauthorized\"",
    );
    assert_unhealthy(
        &check(&config("usb:1-6")),
        "the device (no serial number) has the state \"recovery\"",
    );
}
