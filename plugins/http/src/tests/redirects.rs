//! Targets of redirects, and the headers sent along.

use std::sync::mpsc::sync_channel;

use conductor_net::http::TargetUrl;

use super::*;

/// Returns a redirect to `location`.
fn redirect(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[test]
fn redirects_are_followed_to_the_end() {
    let address = serve(|head, stream| {
        let answer = match head.split(' ').nth(1).unwrap() {
            "/" => redirect(301, "first"),
            "/first" => redirect(307, "/second?x=y"),
            "/second?x=y" => OK.to_owned(),
            other => panic!("{other}"),
        };
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let report = patient(&get(address));
    assert_healthy(&report);
    assert_eq!(value(&report, &metrics::STATUS), Some(200.0));
    assert_eq!(value(&report, &metrics::REDIRECTS), Some(2.0));
}

#[test]
fn a_redirect_is_an_answer_where_it_is_not_followed() {
    let address = answering(redirect(302, "/loop"));
    let url = format!("http://{address}/");
    let report = patient(&json!({"url": url, "follow_redirects": false}));
    assert_unhealthy(&report, "302 Found, expected 200-299");
    let report = patient(&json!({"url": url, "expect_status": [302]}));
    assert_healthy(&report);
}

#[test]
fn a_redirect_loop_is_unhealthy() {
    let address = answering(redirect(302, "/loop?token=secret"));
    let report = patient(&get(address));
    assert_unhealthy(
        &report,
        &format!("more than 20 redirects, the last to http://{address}/loop?…"),
    );
}

#[test]
fn a_redirect_to_nowhere_is_unhealthy() {
    for (location, message) in [
        (
            "ftp://files.example/",
            "307 Temporary Redirect to a location that does not begin with http",
        ),
        (
            "http://[::1",
            "to a location that has a host that is not an IPv6",
        ),
        (
            "http://a b/",
            "to a location that has a host name with characters",
        ),
    ] {
        assert_unhealthy(&patient(&get(answering(redirect(307, location)))), message);
    }
    let without = answering("HTTP/1.1 307 Elsewhere\r\ncontent-length: 0\r\n\r\n");
    assert_unhealthy(&patient(&get(without)), "307 Temporary Redirect, expected");
}

#[test]
fn what_goes_wrong_after_a_redirect_names_the_place() {
    let sick = answering("HTTP/1.1 500 Sick\r\ncontent-length: 0\r\n\r\n");
    let report = patient(&get(answering(redirect(302, &format!("http://{sick}/x")))));
    assert_unhealthy(
        &report,
        &format!("after a redirect to http://{sick}/x: 500 Internal Server Error"),
    );
}

#[test]
fn locations_are_read_as_browsers_read_them() {
    for (location, path) in [
        ("/a b/\u{fc}ber", "/a%20b/%C3%BCber"),
        ("  /x  ", "/x"),
        ("\\x", "/x"),
        ("/x#fragment", "/x"),
        ("/\"<>\"", "/%22%3C%3E%22"),
    ] {
        let address = serve(move |head, stream| {
            let answer = match head.split(' ').nth(1).unwrap() {
                "/" => redirect(302, location),
                found if found == path => OK.to_owned(),
                found => panic!("{location:?} became {found}"),
            };
            stream.write_all(answer.as_bytes()).unwrap();
        });
        assert_healthy(&patient(&get(address)));
    }
}

#[test]
fn the_cookies_of_a_redirect_are_sent_where_they_belong() {
    let (heads, asked) = sync_channel(3);
    let address = serve(move |head, stream| {
        let answer = match head.split(' ').nth(1).unwrap() {
            "/" => {
                "HTTP/1.1 302 Found\r\nset-cookie: a=1; Path=/\r\nset-cookie: b=2; Path=/other\r\n\
                    set-cookie: gone=3; Max-Age=0\r\nset-cookie: \u{fc}\r\nlocation: /in\r\n\r\n"
            }
            _ => OK,
        };
        heads.send(head.to_owned()).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let url = format!("http://{address}/");
    assert_healthy(&patient(&json!({"url": url, "headers": {"cookie": "c=0"}})));
    let (first, second) = (asked.recv().unwrap(), asked.recv().unwrap());
    assert!(first.contains("cookie: c=0\r\n"), "{first}");
    assert!(second.contains("cookie: c=0; a=1\r\n"), "{second}");
}

#[test]
fn a_name_and_password_in_a_location_are_sent_there() {
    let (heads, asked) = sync_channel(2);
    let there = serve(move |head, stream| {
        heads.send(head.to_owned()).unwrap();
        stream.write_all(OK.as_bytes()).unwrap();
    });
    let here = answering(redirect(302, &format!("http://me:p%40ss@{there}/")));
    assert_healthy(&patient(&get(here)));
    let head = asked.recv().unwrap();
    // me:p@ss
    assert!(
        head.contains("authorization: Basic bWU6cEBzcw==\r\n"),
        "{head}"
    );
}

#[test]
fn secrets_stay_with_their_host() {
    let (heads, asked) = sync_channel(1);
    let other = serve(move |head, stream| {
        heads.send(head.to_lowercase()).unwrap();
        stream.write_all(OK.as_bytes()).unwrap();
    });
    let (home_heads, home_asked) = sync_channel(2);
    let home = serve(move |head, stream| {
        home_heads.send(head.to_lowercase()).unwrap();
        let answer = match head.split(' ').nth(1).unwrap() {
            "/" => redirect(302, "/there"),
            _ => redirect(302, &format!("http://{other}/")),
        };
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let report = patient(&json!({
        "url": format!("http://{home}/"),
        "headers": {
            "authorization": "Bearer secret", "cookie": "id=secret", "x-api-key": "secret",
            "host": "shop.example", "accept-language": "de",
        },
    }));
    assert_healthy(&report);
    for _ in 0..2 {
        let head = home_asked.recv().unwrap();
        assert_eq!(head.matches("secret").count(), 3, "{head}");
        assert!(head.contains("host: shop.example\r\n"), "{head}");
    }
    let head = asked.recv().unwrap();
    assert!(!head.contains("secret"), "{head}");
    assert!(head.contains(&format!("host: {other}\r\n")), "{head}");
    assert!(head.contains("accept-language: de\r\n"), "{head}");
}

#[test]
fn the_same_host_over_tls_is_trusted_and_others_are_not() {
    let home = TargetUrl::parse("http://shop.example/a").unwrap();
    let trusts = |url: &str| home.trusts(&TargetUrl::parse(url).unwrap());
    assert!(trusts("http://SHOP.example:80/b") && trusts("https://shop.example/b"));
    assert!(!trusts("http://shop.example:8080/") && !trusts("https://www.shop.example/"));
    let tls = TargetUrl::parse("https://shop.example/").unwrap();
    assert!(!tls.trusts(&home), "back from TLS");
    assert!(!tls.trusts(&TargetUrl::parse("https://shop.example:8443/").unwrap()));
}

#[test]
fn the_method_changes_as_the_standard_says() {
    for (status, method, then) in [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (302, "PUT", "PUT"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "DELETE", "DELETE"),
    ] {
        let (heads, asked) = sync_channel(2);
        let address = serve(move |head, stream| {
            heads.send(head.to_owned()).unwrap();
            let answer = if head.contains(" /then ") {
                OK.to_owned()
            } else {
                redirect(status, "/then")
            };
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let report = patient(&json!({"url": format!("http://{address}/"), "method": method}));
        assert_healthy(&report);
        assert!(asked.recv().unwrap().starts_with(&format!("{method} / ")));
        assert!(
            asked.recv().unwrap().starts_with(&format!("{then} /then ")),
            "{status} {method}"
        );
    }
}

#[test]
fn references_are_resolved_as_the_standard_says() {
    let base = TargetUrl::parse("http://a/b/c/d;p?q").unwrap();
    // RFC 3986, sections 5.4.1 and 5.4.2, without the unsupported schemes.
    for (reference, expected) in [
        ("g", "/b/c/g"),
        ("./g", "/b/c/g"),
        ("g/", "/b/c/g/"),
        ("/g", "/g"),
        ("?y", "/b/c/d;p?y"),
        ("g?y", "/b/c/g?y"),
        ("#s", "/b/c/d;p?q"),
        ("g#s", "/b/c/g"),
        ("g?y#s", "/b/c/g?y"),
        (";x", "/b/c/;x"),
        ("", "/b/c/d;p?q"),
        (".", "/b/c/"),
        ("./", "/b/c/"),
        ("..", "/b/"),
        ("../g", "/b/g"),
        ("../..", "/"),
        ("../../g", "/g"),
        ("../../../g", "/g"),
        ("/./g", "/g"),
        ("/../g", "/g"),
        ("g.", "/b/c/g."),
        ("..g", "/b/c/..g"),
        ("./g/.", "/b/c/g/"),
        ("g/../h", "/b/c/h"),
        ("g;x=1/../y", "/b/c/y"),
        ("g?y/../x", "/b/c/g?y/../x"),
    ] {
        let target = base.join(reference).unwrap();
        assert_eq!(
            (target.host().as_str(), target.path()),
            ("a", expected),
            "{reference:?}"
        );
    }
    assert_eq!(
        base.join("//g").unwrap(),
        TargetUrl::parse("http://g/").unwrap()
    );
    assert_eq!(
        base.join("https://g:1/x").unwrap(),
        TargetUrl::parse("https://g:1/x").unwrap()
    );
}
